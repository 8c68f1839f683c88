"""One turn of a conversation that somebody else's program leads: written by the model, and stored as a step of a run.

Each message of a person begins a run: what was said before it is the run's prefix, and every reply up to the next one
is a step. Calls are carried out by the caller, so that their results are stored with the turn after them, and no policy
of ours decides.

Not covered: a conversation that leaves the stored one, by an edited reply or a second answer to the same messages. It
is answered and not stored, because a run is one row of turns.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from koboshi_policies import Decision, Verdict
from koboshi_tools import ToolCall, ToolResult, ToolVerdict, Transport, UsageError

from .conversation import Asked, Manner, Message, PromptWriter, Said, Told, Written
from .ids import new_id
from .live import visible_ids
from .model import Constraint, GenerateRequest, Model, Reply
from .parse import AnswerReply, CallReply, InvalidReply, ParsedReply, parse_reply
from .records import CallIntent, EndReason, Purpose, RunEnd, RunHeader, RunStatus, Segment, TurnKind, TurnRecord
from .store import RunRecorder, Store

_ALLOWED = Decision(verdict=Verdict.ALLOW, reason="made by the program that led the conversation")
# No policy of ours stood over these calls.
_NO_POLICY = "none"


@dataclass(frozen=True, slots=True)
class Records:
    """Where turns are stored, one at a time: a second answer to the same messages must see the first."""

    store: Store
    one: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to a conversation: as its next message, and as the model wrote it."""

    said: Said
    reply: Reply
    prompt_tokens: int


async def answer(model: Model, messages: Sequence[Message], manner: Manner, records: Records) -> Answer:
    """Write the next reply of a conversation, and store it if it goes on where a run stands.

    Raises UsageError if there is nothing to answer, ModelError if the turn is lost.
    """
    _refuse_unanswerable(messages)
    writer = PromptWriter(model, manner)
    await writer.write(messages)
    reply = await model.generate(_request(model, manner, writer.ids()))
    parsed = parse_reply(model.info.profile, reply.text, reply.finish, manner.tools)
    async with records.one:
        run_id = await _stored(records.store, messages, writer, reply, parsed)
    written = Written(
        model_hash=model.info.model_hash,
        ids=await visible_ids(model, reply),
        finish=reply.finish,
        run_id=run_id,
        error=parsed.error if isinstance(parsed, InvalidReply) and parsed.calls_begun else None,
    )
    calls = parsed.calls if isinstance(parsed, CallReply) else ()
    text = reply.text if isinstance(parsed, InvalidReply) else parsed.text
    return Answer(Said(text=text, calls=calls, written=written), reply, len(writer.ids()))


def _refuse_unanswerable(messages: Sequence[Message]) -> None:
    if not messages or not isinstance(messages[0], Asked):
        raise UsageError("a conversation begins with a person's message", hint="put a human message first")
    last = messages[-1]
    if isinstance(last, Said) and not (last.written and last.written.error):
        raise UsageError("the last message is a reply: there is nothing to answer")


def _request(model: Model, manner: Manner, ids: tuple[int, ...]) -> GenerateRequest:
    constraint = Constraint(tool_format=model.info.profile.tool_format, tools=manner.tools) if manner.tools else None
    return GenerateRequest(
        prompt_ids=ids,
        max_tokens=manner.max_tokens,
        temperature=manner.temperature,
        top_p=manner.top_p,
        seed=manner.seed,
        stop_texts=manner.stop_texts,
        constraint=constraint,
    )


async def _stored(
    store: Store, messages: Sequence[Message], writer: PromptWriter, reply: Reply, parsed: ParsedReply
) -> str | None:
    """Store the reply as the next turn of its run and return the run's id; None if it is no next turn."""
    asked = max(place for place, message in enumerate(messages) if isinstance(message, Asked))
    replies = [message for message in messages[asked:] if isinstance(message, Said)]
    step = len(replies)
    run_id = new_id() if not replies else _run_of(store, replies)
    if run_id is None:
        return None
    recorder = RunRecorder(store, run_id)
    if not replies:
        question = messages[asked]
        recorder.start(_header(store, question.text if isinstance(question, Asked) else "", writer))
    elif isinstance(messages[-1], Told):
        _record_results(recorder, step - 1, replies[-1].calls, messages[-1])
    recorder.turn(_turn(step, writer.new_segments(step), reply, parsed))
    if isinstance(parsed, AnswerReply):
        recorder.end(RunEnd(status=RunStatus.FINISHED, reason=EndReason.ANSWER, answer=parsed.text))
    await recorder.commit()
    return run_id


def _run_of(store: Store, replies: Sequence[Said]) -> str | None:
    """Return the run that these replies make up, if the store knows exactly them and it has not ended."""
    ids = {reply.written.run_id if reply.written else None for reply in replies}
    run_id = ids.pop()
    if ids or run_id is None:
        return None
    try:
        stored = store.trajectory(run_id)
    except UsageError:
        # It was stored in another home.
        return None
    return run_id if stored.end is None and len(stored.turns) == len(replies) else None


def _header(store: Store, question: str, writer: PromptWriter) -> RunHeader:
    manner, info = writer.manner, writer.model.info
    return RunHeader(
        prompt=question,
        purpose=Purpose.WORK,
        split=store.assign_split(question),
        model_hash=info.model_hash,
        profile=info.profile,
        condition=manner.condition if info.profile.conditions else None,
        policy_hash=_NO_POLICY,
        project=manner.project,
        seed=manner.seed,
        temperature=manner.temperature,
        top_p=manner.top_p,
        tools=tuple(spec.name for spec in manner.tools),
        system=manner.system,
        tool_specs=manner.tools,
    )


def _record_results(recorder: RunRecorder, step: int, calls: Sequence[ToolCall], told: Told) -> None:
    for index, (call, result) in enumerate(zip(calls, told.results, strict=False)):
        key = f"{recorder.run_id}/{step}/{index}"
        recorder.intent(
            CallIntent(
                step_index=step,
                call_index=index,
                call=call,
                decision=_ALLOWED,
                tool_version=None,
                tool_digest=None,
                effect=None,
                idempotent=False,
                idempotency_key=key,
            )
        )
        verdict = ToolVerdict.ERROR if result.failed else None
        recorder.result(key, ToolResult(transport=Transport.OK, output=result.output, verdict=verdict))


def _turn(step: int, segments: tuple[Segment, ...], reply: Reply, parsed: ParsedReply) -> TurnRecord:
    kinds = {CallReply: TurnKind.CALL, AnswerReply: TurnKind.ANSWER, InvalidReply: TurnKind.INVALID}
    return TurnRecord(
        index=step,
        segments=segments,
        reply=reply,
        kind=kinds[type(parsed)],
        error=parsed.error if isinstance(parsed, InvalidReply) else None,
        # An answer that was cut stays; a call that was cut does not.
        in_context=not (isinstance(parsed, InvalidReply) and parsed.calls_begun),
    )
