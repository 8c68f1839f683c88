"""Which run a request goes on with: found by the messages that it repeats, or named by a header.

OpenAI's clients send the whole conversation again with each request. The server remembers each reply by the chain of
messages that led to it, together with what was offered, so that a request is given the ids that its replies were
written as, and the run that they are steps of: that of the longest beginning that is known. Equal conversations are
told apart by the ids of their calls. What is remembered is lost with the process: a conversation that goes on after
that is named by the header, or begins a run of its own in its middle.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from koboshi_tools import canonical_json

from ..conversation.messages import Asked, Manner, Message, Said, Told, Written
from ..live import visible_ids
from ..model import Model
from ..parse import CallReply, parse_reply
from ..records import Trajectory
from ..store import Store
from .chat_request import Heard
from .errors import ApiError

RUN_HEADER = "X-Koboshi-Run"
"""The header that names a run: the server's of the reply it gives, a client's of the run that it goes on with."""

_REMEMBERED = 5_000
"""Replies: some 100 MB of ids at 500 tokens each, which is days of one person's work."""

_TWINS = 256
"""Replies to equal conversations that are kept apart."""


@dataclass(slots=True)
class _Reply:
    call_ids: tuple[str, ...]
    written: Written


@dataclass(slots=True)
class Joining:
    """Remembers the newest replies; used from one event loop."""

    store: Store
    _known: OrderedDict[bytes, list[_Reply]] = field(default_factory=OrderedDict)

    async def recall(self, model: Model, heard: Sequence[Heard], manner: Manner, run_id: str | None) -> list[Message]:
        """Return the messages, each reply that is known with how it was written.

        `run_id` names the run that the last replies are steps of. Raises UsageError if there is none, ApiError 409 if
        it holds other replies.
        """
        keys = list(_chain(manner, [each.message for each in heard]))
        found = [self._recalled(each, key) for each, key in zip(heard, keys, strict=True)]
        return found if run_id is None else await _of_run(model, self.store.trajectory(run_id), found)

    def _recalled(self, heard: Heard, key: bytes) -> Message:
        if not isinstance(heard.message, Said) or not (known := self._known.get(key)):
            return heard.message
        alike = next((reply for reply in known if reply.call_ids == heard.call_ids), known[-1])
        return heard.message.model_copy(update={"written": alike.written})

    def remember(self, messages: Sequence[Message], manner: Manner, said: Said, call_ids: tuple[str, ...]) -> None:
        """Keep how a reply was written, for the requests that repeat it."""
        assert said.written is not None, "a reply of ours was written"
        *_, key = _chain(manner, [*messages, said])
        replies = self._known.setdefault(key, [])
        replies.append(_Reply(call_ids, said.written))
        del replies[:-_TWINS]
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _chain(manner: Manner, messages: Sequence[Message]) -> Iterator[bytes]:
    """Yield a key for each message that stands for all up to it."""
    offer = {"system": manner.system, "tools": [tool.model_dump() for tool in manner.tools]}
    state = hashlib.sha256(canonical_json(offer).encode("utf-8", "surrogatepass")).digest()
    for message in messages:
        match message:
            case Asked():
                content: object = message.text
            case Said():
                content = [message.text, [call.model_dump() for call in message.calls]]
            case Told():
                content = [[result.tool, result.output] for result in message.results]
        text = canonical_json([type(message).__name__, content])
        state = hashlib.sha256(state + text.encode("utf-8", "surrogatepass")).digest()
        yield state


async def _of_run(model: Model, trajectory: Trajectory, messages: Sequence[Message]) -> list[Message]:
    """Return the messages, the last replies written as the run's turns were."""
    header, turns = trajectory.header, trajectory.turns
    places = [place for place, message in enumerate(messages) if isinstance(message, Said)][-len(turns) :]
    if len(places) < len(turns):
        raise _not_its_messages(trajectory)
    found = list(messages)
    for place, turn in zip(places, turns, strict=True):
        said = messages[place]
        parsed = parse_reply(header.profile, turn.reply.text, turn.reply.finish, header.tool_specs)
        if not isinstance(said, Said) or said.calls != (parsed.calls if isinstance(parsed, CallReply) else ()):
            raise _not_its_messages(trajectory)
        written = Written(
            model_hash=header.model_hash,
            ids=await visible_ids(model, turn.reply),
            finish=turn.reply.finish,
            run_id=trajectory.run_id,
            error=None if turn.in_context else turn.error,
        )
        found[place] = said.model_copy(update={"written": written})
    return found


def _not_its_messages(trajectory: Trajectory) -> ApiError:
    return ApiError(
        409,
        f"the last replies of these messages are not those of run {trajectory.run_id}",
        code="not_its_messages",
        param="messages",
        hint=f"leave {RUN_HEADER} out, and the messages find their run themselves",
    )
