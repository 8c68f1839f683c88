"""A conversation with the project's agent: each question is a run, and what was said before it is that run's prefix.

A run names the one before as its parent. What the model wrote stays in the prompt by the ids it wrote, as in any run.
"""

from dataclasses import dataclass

from . import prompt
from .live import LiveRun
from .model import Piece
from .records import EndReason, Segment, SegmentKind


@dataclass(slots=True)
class Dialogue:
    """What was said so far, and the last run of it; belongs to one model."""

    said: Segment | None = None
    run_id: str | None = None

    async def take(self, live: LiveRun) -> None:
        """Go on from a run that has ended."""
        profile = live.plan.header.profile
        answered = live.end is not None and live.end.reason is EndReason.ANSWER
        # A run that was stopped leaves the model's turn open.
        closing = prompt.between_turns(profile) if answered else _closed(live)
        behind = [*live.pending, await live.segment(SegmentKind.PREFIX, closing)]
        self.said = Segment(
            kind=SegmentKind.PREFIX,
            ids=(*live.context, *(token for segment in behind for token in segment.ids)),
            text="".join((*live.texts, *(segment.text for segment in behind))),
        )
        self.run_id = live.run_id


def _closed(live: LiveRun) -> tuple[Piece, ...]:
    profile = live.plan.header.profile
    return (*prompt.unfinished_turn(profile), *prompt.between_turns(profile))
