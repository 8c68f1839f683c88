"""A conversation with the project's agent: each question is a run, and what was said before it is that run's prefix.

A run names the one before as its parent. What a model wrote stays in its prompt by the ids it wrote, as in any run. To
another model, where one goes live in the middle, all that was said is told anew in the words and the manner of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from koboshi_tools import UsageError

from . import prompt
from .conversation.messages import Asked, CallOutput, Manner, Message, PromptWriter, Said, Told, as_prefix
from .interchange.conversation import conversation_of
from .live import LiveRun, RunPlan
from .model import Model, Piece
from .records import EndReason, Segment, SegmentKind, Trajectory
from .store import Store
from .talk import Question, Remark


@dataclass(slots=True)
class Dialogue:
    """What was said so far, as the model of `model_hash` reads it, and the last run of it."""

    said: Segment | None = None
    run_id: str | None = None
    model_hash: str | None = None

    async def earlier(self, model: Model, store: Store, plan: RunPlan) -> Segment | None:
        """Return what was said so far, for a question to `model` under `plan`; None before the first answer."""
        if self.said is None or self.model_hash == model.info.model_hash:
            return self.said
        remarks = [each for run in _runs(store, self.run_id) for each in conversation_of(run).remarks]
        writer = PromptWriter(model, Manner(system=plan.system, tools=plan.offered, condition=plan.header.condition))
        await writer.write(list(_messages(remarks)))
        await writer.close()
        return as_prefix(writer.segments)

    async def take(self, live: LiveRun) -> None:
        """Go on from a run that has ended."""
        profile = live.plan.header.profile
        answered = live.end is not None and live.end.reason is EndReason.ANSWER
        # A run that was stopped leaves the model's turn open.
        closing = prompt.between_turns(profile) if answered else _closed(live)
        behind = [*live.pending, await live.segment(SegmentKind.PREFIX, closing)]
        before = Segment(kind=SegmentKind.PREFIX, ids=tuple(live.context), text="".join(live.texts))
        self.said, self.run_id, self.model_hash = as_prefix([before, *behind]), live.run_id, live.model.info.model_hash


def _runs(store: Store, run_id: str | None) -> list[Trajectory]:
    """Return the runs of a conversation, the first one first; what stood before a forgotten one is lost with it."""
    found: list[Trajectory] = []
    while run_id is not None:
        try:
            found.append(store.trajectory(run_id))
        except UsageError:
            break
        header = found[-1].header
        # A fork is a run of its own: what it took over is stored with it.
        run_id = header.parent_run_id if header.forked_at is None else None
    return found[::-1]


def _messages(remarks: Sequence[Remark]) -> Iterator[Message]:
    for remark in remarks:
        if isinstance(remark, Question):
            yield Asked(text=remark.text)
            continue
        yield Said(text=remark.text, calls=tuple(made.call for made in remark.calls))
        if remark.calls:
            outputs = ((made.call.name, made.result.output if made.result else "") for made in remark.calls)
            yield Told(results=tuple(CallOutput(tool=tool, output=output) for tool, output in outputs))


def _closed(live: LiveRun) -> tuple[Piece, ...]:
    profile = live.plan.header.profile
    return (*prompt.unfinished_turn(profile), *prompt.between_turns(profile))
