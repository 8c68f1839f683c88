"""How well a score tells the successes of a task from its failures: the area under the ROC curve, within tasks.

Only pairs of one task are compared, so that a score cannot win by knowing which tasks are hard. The value is the share
of pairs in which the success has the higher score, ties counting half; the interval resamples tasks.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from koboshi_tools import Frozen

_DRAWS = 2000


class Scored(NamedTuple):
    """One trajectory: the task it is of, whether it succeeded, and its score."""

    task: str
    success: bool
    score: float


class Auroc(Frozen):
    """The area with its 95 % interval over tasks; None where no task has both a success and a failure."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int
    tasks: int


def paired_auroc(scored: Sequence[Scored], *, seed: int = 20) -> Auroc:
    """Return the area over all pairs of a success and a failure of one task; equal seeds give equal intervals."""
    by_task: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for one in scored:
        by_task[one.task][one.success].append(one.score)
    counted = [_wins(failures, successes) for failures, successes in by_task.values() if failures and successes]
    if not counted:
        return Auroc(value=None, low=None, high=None, pairs=0, tasks=0)
    won, pairs = np.array(counted).T
    drawn = np.random.default_rng(seed).integers(len(counted), size=(_DRAWS, len(counted)))
    low, high = np.quantile(won[drawn].sum(axis=1) / pairs[drawn].sum(axis=1), [0.025, 0.975])
    return Auroc(
        value=float(won.sum() / pairs.sum()),
        low=float(low),
        high=float(high),
        pairs=int(pairs.sum()),
        tasks=len(counted),
    )


def _wins(failures: Sequence[float], successes: Sequence[float]) -> tuple[float, int]:
    difference = np.subtract.outer(np.array(successes), np.array(failures))
    return float((difference > 0).sum() + (difference == 0).sum() / 2), difference.size
