"""A conversation that somebody else's program leads, as the prompt it comes to.

What our model wrote enters later prompts by the ids it wrote; what others say is made into text by `prompt`, like
everything that a model is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from koboshi_tools import Frozen, ToolCall, ToolSpec

from .. import prompt
from ..model import FinishReason, Model, Piece
from ..records import Segment, SegmentKind


class Asked(Frozen):
    """What a person said."""

    text: str


class Written(Frozen):
    """A reply by our model, as it was written: which model, the ids that stay in the prompt, and where it is stored."""

    model_hash: str
    ids: tuple[int, ...]
    finish: FinishReason
    run_id: str | None
    error: str | None = None


class Said(Frozen):
    """A reply; without `written` it is somebody else's, and is rendered as our model would have written it."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    written: Written | None = None


class CallOutput(Frozen):
    """What a call gave."""

    tool: str
    output: str
    failed: bool = False


class Told(Frozen):
    """The results of the calls of the reply before it, in their order."""

    results: tuple[CallOutput, ...]


Message: TypeAlias = Asked | Said | Told


@dataclass(frozen=True, slots=True)
class Manner:
    """How replies are drawn, what the model is told before the first message, and what it is offered.

    The next reply must be a call if `must_call` says so: of any tool, or of the one that `only` names. `max_calls`
    bounds the calls of one reply.
    """

    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 512
    stop_texts: tuple[str, ...] = ()
    project: str = "chat"
    condition: str | None = prompt.SUCCESS
    must_call: bool = False
    only: str | None = None
    max_calls: int = 4


class PromptWriter:
    """Turns messages into segments; `fresh` is where those begin that no reply has seen yet."""

    def __init__(self, model: Model, manner: Manner) -> None:
        self.model, self.manner, self.profile = model, manner, model.info.profile
        self.segments: list[Segment] = []
        self.fresh = 0

    def ids(self) -> tuple[int, ...]:
        """Return the whole prompt."""
        return tuple(token for segment in self.segments for token in segment.ids)

    async def write(self, messages: Sequence[Message]) -> None:
        """Add all messages, the first one with all that stands before it."""
        for place, message in enumerate(messages):
            following = messages[place + 1] if place + 1 < len(messages) else None
            match message:
                case Asked():
                    await self._ask(message)
                case Said():
                    await self._say(message, following)
                case Told():
                    outputs = [(result.tool, result.output) for result in message.results]
                    await self._add(SegmentKind.TOOL, prompt.tool_turn(self.profile, outputs))
                case _:
                    assert_never(message)

    async def close(self) -> None:
        """Add what stands behind the last turn, before the next one."""
        await self._add(SegmentKind.REPAIR, prompt.between_turns(self.profile))

    async def _ask(self, message: Asked) -> None:
        manner, profile = self.manner, self.profile
        if self.segments:
            await self.close()
            turn = prompt.user_turn(profile, "", (), message.text, manner.condition)
        else:
            begin = getattr(self.model, "begin_id", None)
            self.segments.append(Segment(kind=SegmentKind.PREFIX, ids=() if begin is None else (begin,), text=""))
            await self._add(SegmentKind.PREFIX, prompt.prefix(profile, manner.system, manner.tools))
            turn = prompt.user_turn(profile, manner.system, manner.tools, message.text, manner.condition)
        await self._add(SegmentKind.USER, turn)

    async def _say(self, message: Said, following: Message | None) -> None:
        written = message.written if self._is_ours(message) else None
        if written and written.error:
            self.fresh = len(self.segments)
            told = prompt.repair_turn(self.profile, written.error)
            await self._add(SegmentKind.REPAIR, prompt.invalid_reply(self.profile) if following else told)
            return
        if written is None:
            rendered = prompt.reply_pieces(self.profile, message.text, message.calls)
            await self._add(SegmentKind.REPLY, rendered)
        else:
            self.segments.append(Segment(kind=SegmentKind.REPLY, ids=written.ids, text=message.text))
        self.fresh = len(self.segments)
        if written and written.finish is not FinishReason.STOP:
            await self._add(SegmentKind.REPAIR, prompt.unfinished_turn(self.profile))

    def _is_ours(self, message: Said) -> bool:
        return message.written is not None and message.written.model_hash == self.model.info.model_hash

    async def _add(self, kind: SegmentKind, pieces: tuple[Piece, ...]) -> None:
        ids = await self.model.tokenize(pieces)
        self.segments.append(Segment(kind=kind, ids=ids, text="".join(piece.text for piece in pieces)))

    def new_segments(self, step: int) -> tuple[Segment, ...]:
        """Return what is new to the prompt at a step of a run, which begins with all before its question as prefix."""
        if step:
            return tuple(self.segments[self.fresh :])
        asked = max(place for place, segment in enumerate(self.segments) if segment.kind is SegmentKind.USER)
        # Behind the question stands what others made of it, where a run begins in the middle of a conversation.
        return (as_prefix(self.segments[:asked]), *self.segments[asked:])


def as_prefix(segments: Sequence[Segment]) -> Segment:
    """Return segments as the one prefix of a run that goes on from them."""
    ids = tuple(token for segment in segments for token in segment.ids)
    return Segment(kind=SegmentKind.PREFIX, ids=ids, text="".join(segment.text for segment in segments))
