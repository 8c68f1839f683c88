"""One turn of a conversation that somebody else's program leads: written by the model, and stored as a step of a run.

Each message of a person begins a run: what was said before it is the run's prefix, and every reply up to the next one
is a step. Calls are carried out by the caller, so that their results are stored with the turn after them, and no policy
of ours decides. A reply to a conversation that leaves the stored one (an edited reply, a second answer to the same
messages, other tools, another model) begins a run of its own, whose parent is the one that was left: a run is one row
of turns by one model.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from koboshi_tools import UsageError

from ..live import visible_ids
from ..model import Constraint, FinishReason, GenerateRequest, Model, Reply, Streams, Tell
from ..parse import CallReply, InvalidReply, ParsedReply, parse_reply
from ..spoken import spoken
from ..store import RunRecorder
from .messages import Asked, Manner, Message, PromptWriter, Said, Told, Written
from .place import StepPlace, find_place
from .records import Records, end_of, header_of, record_results, turn_of

__all__ = ["Answer", "PromptTooLongError", "Records", "Turn", "answer", "next_turn"]


class PromptTooLongError(UsageError):
    """What was said does not fit into the model's context."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to a conversation: as its next message, and as the model wrote it."""

    said: Said
    reply: Reply
    prompt_tokens: int

    @property
    def finish_reason(self) -> str:
        """Why it ended, in the words of OpenAI's API: `stop`, `length` or `tool_calls`."""
        if self.reply.finish is FinishReason.LENGTH:
            return "length"
        return "tool_calls" if self.said.calls else "stop"


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply that is about to be written, and the run that it will be a step of."""

    model: Model
    messages: Sequence[Message]
    writer: PromptWriter
    records: Records
    place: StepPlace

    @property
    def run_id(self) -> str:
        """The run."""
        return self.place.run_id

    async def write(self, tell: Tell | None = None) -> Answer:
        """Write the reply and store it; `tell` is given the text as it is written, where the model can do that.

        Raises ModelError if the turn is lost.
        """
        model, manner = self.model, self.writer.manner
        request = _request(model, manner, self.writer.ids())
        if tell is not None and isinstance(model, Streams):
            reply = await model.stream(request, tell)
        else:
            reply = await model.generate(request)
        parsed = parse_reply(model.info.profile, reply.text, reply.finish, manner.tools)
        await self._store(reply, parsed)
        written = Written(
            model_hash=model.info.model_hash,
            ids=await visible_ids(model, reply),
            finish=reply.finish,
            run_id=self.run_id,
            error=parsed.error if isinstance(parsed, InvalidReply) and parsed.calls_begun else None,
        )
        text = spoken(model.info.profile, reply.text, with_tools=bool(manner.tools), stops=manner.stop_texts)
        calls = parsed.calls if isinstance(parsed, CallReply) else ()
        return Answer(Said(text=text, calls=calls, written=written), reply, len(self.writer.ids()))

    async def _store(self, reply: Reply, parsed: ParsedReply) -> None:
        place, last = self.place, self.messages[-1]
        recorder = RunRecorder(self.records.store, place.run_id)
        if place.step == 0:
            recorder.start(header_of(self.writer, place))
        elif isinstance(last, Told):
            record_results(recorder, place.step - 1, place.calls, last)
        segments = self.writer.new_segments(place.step)
        recorder.turn(turn_of(place.step, segments, reply, parsed))
        if (end := end_of(parsed)) is not None:
            recorder.end(end)
        await recorder.commit()
        self.records.note(place.run_id, place.step + 1, ended=end is not None)


@asynccontextmanager
async def next_turn(model: Model, messages: Sequence[Message], manner: Manner, records: Records) -> AsyncIterator[Turn]:
    """Give the next turn of a conversation, with its place kept for it.

    Raises UsageError if there is nothing to answer, PromptTooLongError if no word of an answer would fit.
    """
    _refuse_unanswerable(messages)
    writer = PromptWriter(model, manner)
    await writer.write(messages)
    asked, room = len(writer.ids()), model.info.context_tokens
    if asked >= room:
        raise PromptTooLongError(
            f"the messages come to {asked} tokens, and the model's context holds {room}",
            hint="say less, or raise [worker] context_tokens",
        )
    place = await find_place(records.store, records.taken, messages, writer)
    try:
        yield Turn(model, messages, writer, records, place)
    finally:
        records.taken.discard((place.run_id, place.step))


async def answer(model: Model, messages: Sequence[Message], manner: Manner, records: Records) -> Answer:
    """Write and store the next reply of a conversation; raises as `next_turn` and `Turn.write` do."""
    async with next_turn(model, messages, manner, records) as turn:
        return await turn.write()


def _refuse_unanswerable(messages: Sequence[Message]) -> None:
    if not messages or not isinstance(messages[0], Asked):
        raise UsageError("a conversation begins with a person's message", hint="put a human message first")
    last = messages[-1]
    if isinstance(last, Said) and not (last.written and last.written.error):
        raise UsageError("the last message is a reply: there is nothing to answer")


def _request(model: Model, manner: Manner, ids: tuple[int, ...]) -> GenerateRequest:
    return GenerateRequest(
        prompt_ids=ids,
        max_tokens=manner.max_tokens,
        temperature=manner.temperature,
        top_p=manner.top_p,
        seed=manner.seed,
        stop_texts=manner.stop_texts,
        constraint=_constraint(model, manner),
    )


def _constraint(model: Model, manner: Manner) -> Constraint | None:
    allowed = tuple(tool for tool in manner.tools if manner.only in (None, tool.name))
    if not allowed:
        return None
    return Constraint(
        tool_format=model.info.profile.tool_format,
        tools=allowed,
        must_call=manner.must_call,
        max_calls=1 if manner.only else manner.max_calls,
    )
