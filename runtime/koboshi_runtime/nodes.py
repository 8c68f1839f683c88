"""The five things that happen in a run: generate, check, act, observe, finish. Plain async functions over a `LiveRun`.

Each returns the name of the node that follows. An error that the model caused becomes data on its step; an error of a
tool is a result; only what is ours is raised. A call whose effect is more than reading is on disk as an intent before
it is made, and its result is on disk before the next one is: that is why no effect happens twice.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Literal, assert_never

from koboshi_policies import Answer, Decision, Verdict, check
from koboshi_tools import EffectClass, Tool, ToolCall, ToolContext, ToolResult, Transport
from koboshi_tools import execute as execute_call

from . import prompt
from .approvals import question, take_approval
from .checkers import Finished, judge, judge_checks
from .live import CommitDue, LiveRun
from .model import GenerateRequest, Reply
from .parse import AnswerReply, CallReply, InvalidReply, ParsedReply, parse_reply
from .records import (
    CallIntent,
    CallRecord,
    EndReason,
    Outcome,
    OutcomeLabel,
    OutcomeSource,
    Purpose,
    RunEnd,
    RunStatus,
    SegmentKind,
    TurnKind,
    TurnRecord,
)
from .redact import redactor
from .store.swaps import put_shadow_call
from .workermodel import ModelError

NodeName = Literal["generate", "check", "act", "observe", "finish"]

# The same call with the same result three times over: it will not get better by a fourth.
_LOOP_REPEATS = 3

# Seconds; a version that needs this much longer than the one before it has failed.
_SHADOW_PATIENCE_S = 1.0

_SAID = {
    Answer.APPROVED: "approved by a person",
    Answer.REFUSED: "refused by a person",
    Answer.EXPIRED: "nobody answered in time",
    Answer.UNATTENDED: "nobody is attending to be asked",
}
_IN_DOUBT = "An earlier attempt at this call was cut off: whether it had its effect is not known."


async def generate(live: LiveRun) -> NodeName:
    """Have the model write a turn, unless a budget is spent."""
    if live.resumed and live.turn is not None:
        # What a turn is told is stored with the turn after it: a run that was cut off between them is told again.
        await _tell(live)
    live.resumed = False
    ended = _spent(live)
    if ended is not None:
        return _end(live, ended)
    step = live.turn.index + 1 if live.turn else 0
    try:
        reply = await (live.take_ahead() or live.model.generate(_request(live, step)))
    except ModelError as error:
        return _end(live, EndReason.MODEL_ERROR, error=str(error))
    parsed = parse_reply(live.plan.header.profile, reply.text, reply.finish, live.plan.offered)
    turn = _turn(live, step, reply, parsed)
    live.recorder.turn(turn)
    await live.keep(turn, parsed)
    match parsed:
        case CallReply():
            return "check"
        case AnswerReply():
            return _end(live, EndReason.ANSWER, answer=parsed.text)
        case InvalidReply():
            return "observe"
        case _:
            assert_never(parsed)


def write_ahead(live: LiveRun) -> None:
    """Begin a fresh run's first turn before the graph that will ask for it is there."""
    if live.turn is None and _spent(live) is None:
        live.ahead = asyncio.ensure_future(live.model.generate(_request(live, 0)))


def _request(live: LiveRun, step: int) -> GenerateRequest:
    header, budgets = live.plan.header, live.plan.budgets
    return GenerateRequest(
        prompt_ids=live.prompt_ids(),
        max_tokens=min(budgets.reply_tokens, budgets.max_tokens - live.tokens),
        temperature=header.temperature,
        top_p=header.top_p,
        seed=live.plan.turn_seed(step),
        constraint=live.plan.constraint,
        run_id=live.run_id,
        prefix_tokens=_shared_tokens(live),
        guidance=header.guidance,
        against_ids=live.against_ids(),
    )


def _shared_tokens(live: LiveRun) -> int:
    """Return how many ids begin other runs as well, and hold nothing that may not stay on disk."""
    first = live.pending[:1] if live.plan.earlier is None else []
    return sum(len(s.ids) for s in first if s.kind is SegmentKind.PREFIX and redactor().text(s.text) == s.text)


def _turn(live: LiveRun, step: int, reply: Reply, parsed: ParsedReply) -> TurnRecord:
    kinds = {CallReply: TurnKind.CALL, AnswerReply: TurnKind.ANSWER, InvalidReply: TurnKind.INVALID}
    return TurnRecord(
        index=step,
        segments=tuple(live.pending),
        reply=reply,
        kind=kinds[type(parsed)],
        error=parsed.error if isinstance(parsed, InvalidReply) else None,
        in_context=not isinstance(parsed, InvalidReply),
    )


def _spent(live: LiveRun) -> EndReason | None:
    budgets = live.plan.budgets
    steps = live.turn.index + 1 if live.turn else 0
    if steps >= budgets.max_steps:
        return EndReason.STEP_BUDGET
    if live.tokens >= budgets.max_tokens:
        return EndReason.TOKEN_BUDGET
    if len(live.calls) >= budgets.max_calls:
        return EndReason.CALL_BUDGET
    # Only work has a clock: a slow machine must not turn a rollout into a failure.
    if live.plan.header.purpose is Purpose.WORK and live.seconds() >= budgets.max_seconds:
        return EndReason.TIME_BUDGET
    if len(live.prompt_ids()) >= live.model.info.context_tokens:
        return EndReason.CONTEXT_FULL
    return None


async def check_calls(live: LiveRun, approve: Callable[[CallIntent], Answer]) -> NodeName:
    """Decide on each call of the turn and record the intents; `approve` asks a person, and may suspend the run."""
    if not isinstance(live.parsed, CallReply) or live.turn is None:
        raise AssertionError("check follows a turn with calls")
    # No call of this turn is on disk yet, so none can be in doubt.
    live.resumed = False
    permitted: Counter[str] = Counter()
    live.intents = []
    for index, call in enumerate(live.parsed.calls):
        if index == len(live.checked):
            # Kept for when this runs again with an answer: what is due to the clock must not be decided twice.
            live.checked.append(_intent(live, index, call, permitted))
        intent = _asked(live, live.checked[index], approve)
        permitted[call.name] += intent.decision.permits
        live.intents.append(intent)
    for intent in live.intents:
        _keep(live, intent)
    if any(intent.has_effect for intent in live.intents):
        live.commit_due = CommitDue.NOW
    return "act"


def _keep(live: LiveRun, intent: CallIntent) -> None:
    plan = live.plan
    live.recorder.intent(intent)
    if intent.decision.permits and plan.counts is not None:
        plan.counts.add(plan.header.purpose, intent.call.name, intent.idempotency_key)
    if intent.decision.asked is Answer.UNATTENDED and plan.header.purpose is Purpose.WORK:
        live.recorder.add(question(live.run_id, intent, plan.policy.hash, attended=False))


def _intent(live: LiveRun, index: int, call: ToolCall, permitted: Counter[str]) -> CallIntent:
    step = live.turn.index if live.turn else 0
    tool = live.plan.tools.get(call.name)
    foreign = call.name in live.plan.foreign
    policy, now = live.plan.policy, live.circumstances(permitted)
    return CallIntent(
        step_index=step,
        call_index=index,
        call=call,
        decision=_foreign_decision(call) if foreign else check(call, policy, now),
        shadow=None if foreign or policy.shadow is None else check(call, policy.shadow, now),
        tool_version=None if foreign or tool is None else tool.version,
        tool_digest=None if foreign or tool is None else tool.digest,
        effect=None if foreign or tool is None else tool.effect.value,
        idempotent=tool is not None and tool.idempotent and not foreign,
        idempotency_key=f"{live.run_id}/{step}/{index}",
    )


def _foreign_decision(call: ToolCall) -> Decision:
    return Decision(
        verdict=Verdict.DENY, reason=f"{call.name} has no implementation here: it is recorded, never executed"
    )


def _asked(live: LiveRun, intent: CallIntent, approve: Callable[[CallIntent], Answer]) -> CallIntent:
    decision = intent.decision
    if decision.verdict is not Verdict.ASK:
        return intent
    # With somebody to ask, `approve` is called for each such call, also when this runs again with the answers: they are
    # told apart by their order alone.
    answer = approve(intent) if live.plan.asker is not None else _unattended(live, intent)
    permitted = Verdict.ALLOW if decision.arguments is None else Verdict.MODIFY
    said = {
        "verdict": permitted if answer is Answer.APPROVED else Verdict.DENY,
        "reason": f"{decision.reason}; {_SAID[answer]}",
        "asked": answer,
    }
    return intent.model_copy(update={"decision": decision.model_copy(update=said)})


def _unattended(live: LiveRun, intent: CallIntent) -> Answer:
    approved = take_approval(live.store, intent, live.plan.policy.hash)
    return Answer.APPROVED if approved else Answer.UNATTENDED


async def act(live: LiveRun) -> NodeName:
    """Make the calls that may be made: those that only read side by side, the others one after another.

    A call of this turn that has its result already, from before the run was cut off, is not made again.
    """
    known = {_key(record.intent): record for record in live.last_calls()}
    live.calls = [record for record in live.calls if _key(record.intent) not in known]
    reading = [intent for intent in live.intents if _key(intent) not in known and not intent.has_effect]
    results = dict(zip(map(_key, reading), await asyncio.gather(*(_result(live, i) for i in reading)), strict=True))
    for intent in live.intents:
        if _key(intent) in known:
            live.calls.append(known[_key(intent)])
        elif _key(intent) in results:
            _record(live, intent, results[_key(intent)])
        elif not await _make(live, intent):
            return _end(live, EndReason.IN_DOUBT, error=f"{intent.call.name}: {_IN_DOUBT}")
    live.resumed = False
    return "observe"


def _key(intent: CallIntent) -> str:
    return intent.idempotency_key


async def _make(live: LiveRun, intent: CallIntent) -> bool:
    """Make a call that has an effect, and store its result; False if it is in doubt and not to be made again."""
    if live.resumed and not intent.idempotent and not await _repeat(live, intent):
        return False
    # Calls with an effect are made in order: those after the first without a result were never begun.
    live.resumed = False
    _record(live, intent, await _result(live, intent))
    await live.recorder.commit()
    return True


async def _repeat(live: LiveRun, intent: CallIntent) -> bool:
    """Ask whether a call that may have had its effect is to be made again; nobody to ask means no."""
    asker = live.plan.asker
    return asker is not None and await asker.ask(live.run_id, intent) is Answer.APPROVED


def _record(live: LiveRun, intent: CallIntent, result: ToolResult) -> None:
    live.recorder.result(intent.idempotency_key, result)
    live.calls.append(CallRecord(intent=intent, result=result))


async def _result(live: LiveRun, intent: CallIntent) -> ToolResult:
    call, plan = intent.call, live.plan
    if call.name in plan.foreign:
        return ToolResult(transport=Transport.NOT_EXECUTED, output="")
    if not intent.decision.permits:
        return ToolResult(transport=Transport.DENIED, output=f"Denied: {intent.decision.reason}.")
    tool = plan.tools[call.name]
    if _unreplayable(live, tool):
        return ToolResult(transport=Transport.NOT_EXECUTED, output="not replayable outside real work")
    result = await _execute(live, intent, tool, timeout_s=plan.budgets.tool_seconds)
    shadow = plan.shadows.get(call.name)
    if shadow is not None:
        await _beside(live, intent, shadow, result)
    return result


async def _beside(live: LiveRun, intent: CallIntent, shadow: Tool, result: ToolResult) -> None:
    """Make a call on a version in shadow as well, and keep what it said where nobody but its author looks."""
    # It may not hold up the run for much longer than the version whose answer counts.
    patience_s = min(live.plan.budgets.tool_seconds, _SHADOW_PATIENCE_S + 2 * result.seconds)
    said = await _execute(live, intent, shadow, timeout_s=patience_s)
    same = (said.transport, said.verdict, said.output) == (result.transport, result.verdict, result.output)
    live.recorder.add([put_shadow_call(intent, shadow, said, same=same)])


async def _execute(live: LiveRun, intent: CallIntent, tool: Tool, *, timeout_s: float) -> ToolResult:
    plan = live.plan
    context = ToolContext(workspace=plan.workspace, settings=plan.tool_settings.get(intent.call.name, {}))
    return await execute_call(
        intent.made, tool, context, timeout_s=timeout_s, max_output_bytes=plan.budgets.tool_output_bytes
    )


def _unreplayable(live: LiveRun, tool: Tool) -> bool:
    """Say whether a call would touch the live world from a run that must not: workspaces are copies, the net is not."""
    away = tool.elsewhere or tool.effect in (EffectClass.NET, EffectClass.EXEC)
    return away and live.plan.header.purpose is not Purpose.WORK


async def observe(live: LiveRun) -> NodeName:
    """Tell the model what came back, or that its turn was invalid; notice a run that goes in circles."""
    stopped = _stopped(live)
    if stopped is not None:
        return _end(live, stopped)
    live.commit_due = CommitDue.SOON
    await _tell(live)
    return "generate"


async def _tell(live: LiveRun) -> None:
    profile = live.plan.header.profile
    if isinstance(live.parsed, InvalidReply):
        told = prompt.repair_turn(profile, live.parsed.error)
        live.pending.append(await live.segment(SegmentKind.REPAIR, told))
        return
    outputs = [(record.intent.call.name, record.result.output if record.result else "") for record in live.last_calls()]
    live.pending.append(await live.segment(SegmentKind.TOOL, prompt.tool_turn(profile, outputs)))


def _stopped(live: LiveRun) -> EndReason | None:
    now = live.last_calls()
    if not now:
        return None
    if any(record.intent.call.name in live.plan.foreign for record in now):
        return EndReason.NOT_EXECUTED
    if any(record.result and record.result.transport is Transport.NOT_EXECUTED for record in now):
        return EndReason.NOT_REPLAYABLE
    same = [r for r in live.calls if _same(r, now[-1])]
    return EndReason.LOOP if len(same) >= _LOOP_REPEATS else None


def _same(one: CallRecord, other: CallRecord) -> bool:
    outputs = one.result.output if one.result else None, other.result.output if other.result else None
    return one.intent.call == other.intent.call and outputs[0] == outputs[1]


def _end(live: LiveRun, reason: EndReason, *, answer: str | None = None, error: str | None = None) -> NodeName:
    failed = reason in (EndReason.MODEL_ERROR, EndReason.IN_DOUBT)
    live.end = RunEnd(
        status=RunStatus.FAILED if failed else RunStatus.FINISHED, reason=reason, answer=answer, error=error
    )
    return "finish"


async def finish(live: LiveRun) -> None:
    """Judge the run and close it: outcome and end are on disk together."""
    if live.end is None:
        raise AssertionError("finish follows an end")
    live.outcomes = _outcomes(live, live.end)
    for outcome in live.outcomes:
        live.recorder.outcome(outcome)
    live.recorder.end(live.end)
    live.commit_due = CommitDue.NOW


def _outcomes(live: LiveRun, end: RunEnd) -> list[Outcome]:
    unjudged = (EndReason.MODEL_ERROR, EndReason.IN_DOUBT, EndReason.NOT_REPLAYABLE, EndReason.TIME_BUDGET)
    if end.reason in unjudged:
        return []
    plan = live.plan
    finished = Finished(
        answer=end.answer,
        calls=live.calls_made(),
        workspace=plan.workspace,
        ended_ok=end.reason in (EndReason.ANSWER, EndReason.NOT_EXECUTED),
    )
    checked = judge_checks(plan.checks, finished, plan.check_settings)
    outcomes = [] if checked is None else [checked]
    if plan.task is not None and plan.task.checker is not None:
        outcomes.append(judge(plan.task.checker, finished, plan.check_settings))
    if not outcomes and end.reason is EndReason.LOOP:
        loop = Outcome(label=OutcomeLabel.FAILURE, source=OutcomeSource.WEAK, who="loop detector", rationale="looped")
        outcomes.append(loop)
    return outcomes
