"""A fork: a run that takes over the first turns of another, and goes on by itself.

The turns are said again, id by id, and their calls are made anew where the fork works, so that what follows stands on
the same ground. If the model would be told anything else than it was told then, because a prompt, a tool or what a tool
says has changed, the fork ends there: what came of it would say nothing about the run that it was forked from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from koboshi_tools import UsageError

from .model import GenerateRequest, KeepsRuns, Model, Piece, Reply
from .records import FOREIGN, Trajectory, TurnRecord
from .workermodel import ModelError


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a run goes on from: behind the first `turns` turns of `run`.

    Raises UsageError for a run whose turns cannot be said again: of another program, in a conversation, or with a
    secret that is not stored, and for more turns than there are.
    """

    run: Trajectory
    turns: int

    def __post_init__(self) -> None:
        why = _why_not(self.run)
        if why is not None:
            raise UsageError(f"Run {self.run.run_id} cannot be forked: {why}.")
        if not 0 <= self.turns <= len(self.run.turns):
            raise UsageError(f"Run {self.run.run_id} has {len(self.run.turns)} turns, not {self.turns}.")

    def model(self, model: Model) -> Model:
        """Return `model`, for one run that begins with the turns of the fork."""
        return _TakingOver(model, self.run.turns[: self.turns])


def _why_not(run: Trajectory) -> str | None:
    if run.header.profile == FOREIGN or run.header.imported is not None:
        return "another program made it, and its ids are not known"
    if run.redacted:
        return "it held a secret, which is not stored"
    if run.header.parent_run_id is not None and run.header.forked_at is None:
        return "it goes on with a conversation"
    return None


class _TakingOver:
    """A model for one run: it says what was said before, then writes itself."""

    def __init__(self, model: Model, turns: Sequence[TurnRecord]) -> None:
        self.info = model.info
        self.begin_id: int | None = getattr(model, "begin_id", None)
        self._model = model
        self._left = list(turns)

    async def generate(self, request: GenerateRequest) -> Reply:
        """Return the next recorded reply, or write one. Raises ModelError if the prompt is not the recorded one."""
        if not self._left:
            return await self._model.generate(request)
        turn = self._left.pop(0)
        told = tuple(token for segment in turn.segments for token in segment.ids)
        # What stands before was compared with the turns before.
        if request.prompt_ids[len(request.prompt_ids) - len(told) :] != told:
            raise ModelError(f"step {turn.index} is told something else now than it was told then: {_named(turn)}")
        return turn.reply.model_copy(update={"reused_tokens": 0, "decoded_tokens": 0, "seconds": 0.0})

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return the ids of `pieces`."""
        return await self._model.tokenize(pieces)

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return the log-probabilities of ids."""
        return await self._model.score(ids, start)

    def release(self, run_id: str) -> None:
        """Say that the run wrote its last turn."""
        if isinstance(self._model, KeepsRuns):
            self._model.release(run_id)

    async def close(self) -> None:
        """Nothing is held: the model is another's."""


def _named(turn: TurnRecord) -> str:
    if turn.index == 0:
        return "the system prompt, the tools or the model's manner of speaking have changed"
    return "a tool answers otherwise"
