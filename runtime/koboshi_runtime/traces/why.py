"""Why a run ended so, in five answers: what was asked, what went wrong first, which rule, whose verdict, what now.

The first fault is the earliest step at which something did not go as it should: a reply that was no valid call, a call
that was refused, failed, or is in doubt; where no step has one, the way the run ended, or the answer that was judged
wrong. It is read from what is recorded and guesses nothing: an earlier step that led there may have been the real
mistake. Every text is safe to print.
"""

import shlex
from typing import NamedTuple, assert_never

from koboshi_policies import Answer, Verdict
from koboshi_tools import Frozen, ToolVerdict, Transport, canonical_json

from ..ids import SHORT_ID
from ..records import CallRecord, EndReason, OutcomeLabel, Trajectory, TurnKind, counting_outcome
from ..text import plain
from .view import decision_text, short_hash

_SHOWN = 160
"""Characters of a text that stand on one of the five lines."""

_BUDGETS = {
    EndReason.STEP_BUDGET: "max_steps",
    EndReason.TOKEN_BUDGET: "max_tokens",
    EndReason.TIME_BUDGET: "max_seconds",
    EndReason.CALL_BUDGET: "max_calls",
}


class Why(Frozen):
    """The five answers, each one line; `step` is where it first went wrong, None where no step did."""

    run_id: str
    asked: str
    wrong: str
    step: int | None
    rule: str
    outcome: str
    next: str


class _Fault(NamedTuple):
    text: str
    step: int | None = None
    call: CallRecord | None = None


def explain(trajectory: Trajectory, *, model: str | None = None, resumable: bool = False) -> Why:
    """Return the five answers about a run; `model` is its model's name, `resumable` says that it was cut off."""
    fault = first_fault(trajectory)
    return Why(
        run_id=trajectory.run_id,
        asked=_asked(trajectory, model),
        wrong=_wrong(trajectory, fault),
        step=fault.step if fault else None,
        rule=_rule(trajectory, fault),
        outcome=_outcome(trajectory),
        next=_next(trajectory, fault, resumable=resumable),
    )


def first_fault(trajectory: Trajectory) -> _Fault | None:
    """Return the earliest thing that did not go as it should, or None."""
    for turn in trajectory.turns:
        if turn.kind is TurnKind.INVALID:
            return _Fault(f"the reply was neither a valid call nor an answer: {turn.error}", turn.index)
        for call in trajectory.calls:
            if call.intent.step_index == turn.index and (said := _call_fault(call)):
                return _Fault(said, turn.index, call)
    return _end_fault(trajectory)


def _call_fault(call: CallRecord) -> str | None:
    name, result = call.intent.call.name, call.result
    if result is None:
        return f"{name} was begun, and whether it had its effect is not known"
    match result.transport:
        case Transport.OK:
            return f"{name} says: {result.output}" if result.verdict is ToolVerdict.ERROR else None
        case Transport.DENIED:
            return f"{name} was not allowed"
        case Transport.NOT_EXECUTED:
            return None
        case Transport.ERROR | Transport.TIMEOUT | Transport.INVALID:
            return f"{name} failed ({result.transport}): {result.output}"
        case _:
            assert_never(result.transport)


def _end_fault(trajectory: Trajectory) -> _Fault | None:
    end, last = trajectory.end, trajectory.turns[-1].index if trajectory.turns else None
    if end is None:
        return _Fault("it has not ended")
    if end.reason not in (EndReason.ANSWER, EndReason.NOT_EXECUTED, EndReason.OUTSIDE):
        return _Fault(f"it ended by {end.reason}{f': {end.error}' if end.error else ''}", last)
    if trajectory.outcome is not OutcomeLabel.FAILURE:
        return None
    if end.reason is EndReason.NOT_EXECUTED:
        return _Fault("every step went as it should, but the calls were not those that were asked for", last)
    return _Fault(f"every step went as it should, but the answer is wrong: {end.answer}", last)


def _asked(trajectory: Trajectory, model: str | None) -> str:
    header = trajectory.header
    about = [header.purpose.value, *([f"task {header.task_id}"] if header.task_id else [])]
    about.append(f"model {model or short_hash(header.model_hash)}")
    return f"{_line(header.prompt)} ({plain(', '.join(about))})"


def _wrong(trajectory: Trajectory, fault: _Fault | None) -> str:
    if fault is None:
        return "nothing"
    place = "" if fault.step is None else f"step {fault.step}: "
    recovered = "; the run got over it" if trajectory.outcome is OutcomeLabel.SUCCESS else ""
    return f"{place}{_line(fault.text)}{recovered}"


def _rule(trajectory: Trajectory, fault: _Fault | None) -> str:
    calls = trajectory.calls
    if fault and fault.call:
        return decision_text(fault.call.intent.decision)
    other = next((call for call in calls if call.intent.decision.verdict is not Verdict.ALLOW), None)
    if other:
        return f"{plain(other.intent.call.name)} in step {other.intent.step_index}: {_decided(other)}"
    if calls:
        all_of = "the only call was" if len(calls) == 1 else f"all {len(calls)} calls were"
        rules = dict.fromkeys(call.intent.decision.rule or "no rule" for call in calls)
        return f"{all_of} allowed, by {plain(', '.join(rules))}"
    offered = ", ".join(plain(name) for name in trajectory.header.tools)
    return f"no call was made; offered were {offered}" if offered else "no call was made, and no tool was offered"


def _decided(call: CallRecord) -> str:
    return decision_text(call.intent.decision)


def _outcome(trajectory: Trajectory) -> str:
    counts = counting_outcome(trajectory.outcomes)
    if counts is None:
        return "unknown: nobody has judged it"
    why = f": {_line(counts.rationale)}" if counts.rationale else ""
    others = len(trajectory.outcomes) - 1
    more = f" ({others} other label{'s' * (others > 1)} counted less)" if others else ""
    return f"{counts.label} by {counts.source} ({plain(counts.who)}){why}{more}"


def _next(trajectory: Trajectory, fault: _Fault | None, *, resumable: bool) -> str:
    run, end = trajectory.run_id[:SHORT_ID], trajectory.end
    if end is None:
        return f"go on with it: koboshi run --resume {run}" if resumable else f"wait for it: koboshi traces show {run}"
    if fault and fault.call and (said := _after_call(fault.call)):
        return said
    if trajectory.outcome is OutcomeLabel.UNKNOWN:
        return f"say how it went: koboshi outcome set {run} success|failure"
    if end.reason in _BUDGETS:
        return f"raise {_BUDGETS[end.reason]} in [agent.budgets] of koboshi.toml, or see: koboshi traces show {run}"
    if trajectory.outcome is OutcomeLabel.SUCCESS:
        return "make a task of it: koboshi tasks from-runs"
    return f"see each step: koboshi traces show {run}; what failed is learnt from by: koboshi train"


def _after_call(call: CallRecord) -> str | None:
    intent, result = call.intent, call.result
    if result is None:
        return "look whether it had its effect before the task is run again"
    if result.transport is not Transport.DENIED:
        return None
    if intent.decision.asked in (Answer.UNATTENDED, Answer.EXPIRED):
        return "allow that call for its next time: koboshi approvals list"
    arguments = shlex.quote(canonical_json(intent.call.arguments))
    return f"see all rules about it: koboshi policy explain {plain(shlex.quote(intent.call.name))} {plain(arguments)}"


def _line(text: str) -> str:
    return plain(" ".join(text.split()), width=_SHOWN)
