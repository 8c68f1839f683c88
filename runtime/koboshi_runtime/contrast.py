"""Choose one of several runs of a task by what their own model says of them.

A model that was trained under two conditions is asked twice how likely a finished run is: once under the success
condition, once under the failure condition. The contrast, mean log p(run | success) - weight · mean log p(run |
failure), prefers what is likely because it is right over what is merely likely (after Likra, arXiv 2503.14391). The
means are over the ids that the model wrote; the context, tool results included, is the same in both. Beside it stand
the plain ways: the commonest answer, and the mean log-probability alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal, assert_never, get_args

from . import prompt
from .checkers.numbers import last_number
from .model import Model
from .records import EndReason, SegmentKind, Trajectory, TurnKind

Chooser = Literal["majority", "logprob", "contrast", "contrast-vote"]
CHOOSERS: tuple[Chooser, ...] = get_args(Chooser)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run to choose among: its answer, whether it ended with one by itself, and its mean log-probabilities."""

    answer: str | None
    finished: bool
    under_success: float
    under_failure: float
    tokens: int

    def contrast(self, weight: float) -> float:
        """Return the score that prefers what success makes likely and failure does not."""
        return self.under_success - weight * self.under_failure


async def candidate(model: Model, trajectory: Trajectory) -> Candidate:
    """Return a run with its scores by `model`, which must know conditions; a run without a reply scores minus infinity.

    Raises ModelError if the run is longer than the model's context.
    """
    success, tokens = await _mean_logprob(model, trajectory, prompt.SUCCESS)
    failure, _ = await _mean_logprob(model, trajectory, prompt.FAILURE)
    end = trajectory.end
    finished = end is not None and end.reason is EndReason.ANSWER
    return Candidate(end.answer if end else None, finished, success, failure, tokens)


def choose(candidates: Sequence[Candidate], how: Chooser, *, weight: float = 0.9) -> int:
    """Return the index of the chosen candidate; unfinished ones are chosen only if all are; the first wins a tie."""
    among = [index for index, one in enumerate(candidates) if one.finished] or list(range(len(candidates)))
    match how:
        case "majority":
            votes = _votes(candidates, among, [1.0] * len(candidates))
        case "logprob":
            votes = [one.under_success for one in candidates]
        case "contrast":
            votes = [one.contrast(weight) for one in candidates]
        case "contrast-vote":
            votes = _votes(candidates, among, [exp(min(20.0, one.contrast(weight))) for one in candidates])
        case _:
            assert_never(how)
    return max(among, key=lambda index: votes[index])


def _votes(candidates: Sequence[Candidate], among: Sequence[int], weights: Sequence[float]) -> list[float]:
    """Return for each candidate the weight of all that gave the same answer."""
    by_answer: dict[str | None, float] = defaultdict(float)
    for index in among:
        by_answer[_said(candidates[index].answer)] += weights[index]
    return [by_answer[_said(one.answer)] for one in candidates]


def _said(answer: str | None) -> str | None:
    """Return what an answer comes to: its last number if it has one, else its words."""
    if answer is None:
        return None
    number = last_number(answer)
    return f"{number.normalize():f}" if number is not None else " ".join(answer.casefold().split())


async def _mean_logprob(model: Model, trajectory: Trajectory, condition: str) -> tuple[float, int]:
    header = trajectory.header
    user = await model.tokenize(
        prompt.user_turn(header.profile, header.system, header.tool_specs, header.prompt, condition)
    )
    ids: list[int] = []
    written: list[int] = []
    for turn in trajectory.turns:
        for segment in turn.segments:
            ids.extend(user if segment.kind is SegmentKind.USER else segment.ids)
        if turn.kind is not TurnKind.INVALID:
            written.extend(range(len(ids), len(ids) + len(turn.reply.ids)))
        if turn.in_context or turn is trajectory.turns[-1]:
            ids.extend(turn.reply.ids)
    if not written:
        return float("-inf"), 0
    scores = await model.score(tuple(ids), written[0])
    return sum(scores[at - written[0]] for at in written) / len(written), len(written)
