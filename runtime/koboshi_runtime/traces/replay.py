"""Play a recorded run once more, on any model, without an effect and without a record.

The model is told what it was told then: system prompt, tools and task as recorded, in its own profile. Its calls are
answered from the record: the same call gets the result that it got, in the order of the results, the last one for
good. A call that was not recorded is made only if its tool merely reads here and today's rules allow it; if they deny
it, the model is told so. Any other call cannot be answered, and there the replay ends. Nothing is stored, no budget of
seconds holds, and checks that look at a workspace do not judge.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

from koboshi_policies import Answer, Verdict
from koboshi_tools import EffectClass, Frozen, ToolCall, ToolContext, ToolResult, Transport, canonical_json, execute

from .. import nodes, prompt
from ..checkers import CheckSettings, CommandChecker, Finished, SqlChecker, judge
from ..ids import new_id, utc_now
from ..live import LiveRun, RunPlan
from ..model import KeepsRuns
from ..records import CallIntent, CallRecord, EndReason, Outcome, Purpose, RunHeader, Trajectory, TurnRecord
from ..session import Session
from ..store import RunRecorder
from ..store.recorder import Event, Watch
from ..tasks import Task

REPLAYED = "replayed"
"""Stands where a run's id would: a replay has no record."""


class AnsweredBy(StrEnum):
    """Where the result of a replayed call comes from."""

    RECORD = "record"
    READING = "reading now"
    POLICY = "policy"
    FOREIGN = "not implemented"
    NOTHING = "nothing"


class Answered(Frozen):
    """A call of the replay, and what answered it."""

    step: int
    call: ToolCall
    by: AnsweredBy


class Replay(Frozen):
    """What became of it; `trajectory` has the recorded run's purpose and split, and `REPLAYED` for its id."""

    trajectory: Trajectory
    answered: tuple[Answered, ...]

    @property
    def unanswered(self) -> tuple[Answered, ...]:
        """The calls at which it had to end."""
        return tuple(each for each in self.answered if each.by is AnsweredBy.NOTHING)


class _Nobody:
    """An asker that is never there: a replay asks no person and uses up no approval."""

    async def ask(self, run_id: str, intent: CallIntent) -> Answer:
        return Answer.UNATTENDED


@dataclass(slots=True)
class _Book:
    """The recorded results, by call."""

    results: dict[str, list[CallRecord]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, recorded: Trajectory) -> "_Book":
        book = cls()
        for record in recorded.calls:
            if record.result is not None:
                book.results[_key(record.intent.call)].append(record)
        return book

    def take(self, call: ToolCall) -> CallRecord | None:
        left = self.results.get(_key(call))
        if not left:
            return None
        return left.pop(0) if len(left) > 1 else left[0]


def _key(call: ToolCall) -> str:
    return f"{call.name} {canonical_json(call.arguments)}"


async def replay(recorded: Trajectory, session: Session, watch: Watch | None = None) -> Replay:
    """Play `recorded` on the session's model, with the session's rules for calls that were not recorded.

    `watch` is told each turn and call. A model that fails ends the replay as it ends a run.
    """
    turns: list[TurnRecord] = []

    def seen(event: Event) -> None:
        if isinstance(event, TurnRecord):
            turns.append(event)
        if watch is not None:
            watch(event)

    live = _live(recorded, session, seen)
    await live.open()
    answered: list[Answered] = []
    book, goto = _Book.of(recorded), "generate"
    while goto != "finish":
        if goto == "check":
            await nodes.check_calls(live, lambda _: Answer.UNATTENDED)
            answered += [await _answer(live, intent, book) for intent in live.intents]
            goto = await nodes.observe(live)
        else:
            goto = await (nodes.generate(live) if goto == "generate" else nodes.observe(live))
    if isinstance(live.model, KeepsRuns):
        live.model.release(live.run_id)
    return Replay(trajectory=_trajectory(recorded, live, turns), answered=tuple(answered))


def _live(recorded: Trajectory, session: Session, watch: Watch) -> LiveRun:
    profile, header = session.model.info.profile, recorded.header
    told = header.model_copy(
        update={
            "model_hash": session.model.info.model_hash,
            "profile": profile,
            "condition": prompt.SUCCESS if profile.conditions else None,
            "policy_hash": session.policy.hash,
            # Of a purpose that has no clock and stores no questions.
            "purpose": Purpose.EVAL,
        }
    )
    task = _task(header)
    plan = RunPlan(
        header=told,
        task=task,
        system=header.system,
        offered=header.tool_specs,
        tools=session.tools,
        foreign=frozenset(spec.name for spec in (task.tool_specs if task else None) or ()),
        policy=session.policy,
        budgets=session.project.budgets,
        workspace=session.project.workspace,
        tool_settings=session.project.tool_settings,
        asker=_Nobody(),
    )
    run_id = new_id()
    # The recorder is never committed: what it holds goes away with it.
    return LiveRun(run_id, plan, session.model, session.store, RunRecorder(session.store, run_id, watch))


def _task(header: RunHeader) -> Task | None:
    return Task.model_validate(header.task) if header.task else None


async def _answer(live: LiveRun, intent: CallIntent, book: _Book) -> Answered:
    record = book.take(intent.call)
    if record is not None and record.result is not None:
        intent = intent.model_copy(update={"decision": record.intent.decision})
        by, result = AnsweredBy.RECORD, record.result
    else:
        by, result = await _unrecorded(live, intent)
    live.recorder.result(intent.idempotency_key, result)
    live.calls.append(CallRecord(intent=intent, result=result))
    return Answered(step=intent.step_index, call=intent.call, by=by)


async def _unrecorded(live: LiveRun, intent: CallIntent) -> tuple[AnsweredBy, ToolResult]:
    plan, name = live.plan, intent.call.name
    nothing = ToolResult(transport=Transport.NOT_EXECUTED, output="not recorded")
    if name in plan.foreign:
        return AnsweredBy.FOREIGN, nothing
    tool, decision = plan.tools.get(name), intent.decision
    if tool is None or decision.asked is not None:
        return AnsweredBy.NOTHING, nothing
    if decision.verdict is Verdict.DENY:
        return AnsweredBy.POLICY, ToolResult(transport=Transport.DENIED, output=f"Denied: {decision.reason}.")
    if tool.effect is not EffectClass.READ or tool.elsewhere:
        return AnsweredBy.NOTHING, nothing
    result = await execute(
        intent.made,
        tool,
        ToolContext(workspace=plan.workspace, settings=plan.tool_settings.get(name, {})),
        timeout_s=plan.budgets.tool_seconds,
        max_output_bytes=plan.budgets.tool_output_bytes,
    )
    return AnsweredBy.READING, result


def _trajectory(recorded: Trajectory, live: LiveRun, turns: list[TurnRecord]) -> Trajectory:
    kept = {"purpose": recorded.header.purpose}
    return Trajectory(
        run_id=REPLAYED,
        created_at=utc_now(),
        header=live.plan.header.model_copy(update=kept),
        turns=tuple(turns),
        calls=tuple(live.calls),
        outcomes=_outcomes(live),
        end=live.end,
    )


def _outcomes(live: LiveRun) -> tuple[Outcome, ...]:
    checker, end = live.plan.task.checker if live.plan.task else None, live.end
    if checker is None or isinstance(checker, (SqlChecker, CommandChecker)) or end is None:
        return ()
    match end.reason:
        case EndReason.MODEL_ERROR | EndReason.NOT_REPLAYABLE:
            return ()
        case _:
            ended_ok = end.reason in (EndReason.ANSWER, EndReason.NOT_EXECUTED)
            finished = Finished(answer=end.answer, calls=live.calls_made(), ended_ok=ended_ok)
            return (judge(checker, finished, CheckSettings()),)
