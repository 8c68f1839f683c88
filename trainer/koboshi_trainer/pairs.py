"""Pair the results of two models, task by task and seed by seed.

Both sides must have every task with every seed; what is absent is counted, and its task left out. So is a task of which
any run, on either side, could not be replayed. `unknown` is never a success, and never makes a win: where the current
model's run is unknown the pair counts as a tie at best, so that a checker that fails on one side cannot promote.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.statistics import Interval, TaskResult
from koboshi_tools import Frozen, UsageError

from .stats import Differences, bootstrap_interval

_Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two sides of equal shape: `current[i][j]` and `candidate[i][j]` ran task `task_ids[i]` with the same seed.

    `missing` counts the runs that one side or both lack, `not_replayable` the tasks left out for that reason.
    """

    task_ids: tuple[str, ...]
    current: tuple[tuple[TaskResult, ...], ...]
    candidate: tuple[tuple[TaskResult, ...], ...]
    missing: int
    not_replayable: int

    @property
    def seeds(self) -> int:
        """Seeds a task; 0 without tasks."""
        return len(self.current[0]) if self.current else 0

    def differences(self) -> Differences:
        """Return what the candidate won (+1) and lost (-1), shape (tasks, seeds)."""
        won, lost = _matrix(self.candidate, _succeeded), _matrix(self.current, _succeeded)
        unproved = _matrix(self.current, _unknown)
        difference = won - lost
        return np.where(unproved == 1, np.minimum(difference, 0), difference).reshape(len(self.task_ids), self.seeds)

    def only(self, wanted: Callable[[TaskResult], bool]) -> "Pairs":
        """Return the tasks of which any run on either side is `wanted`; symmetric, so that it favours neither."""
        rows = [
            index
            for index, (ours, theirs) in enumerate(zip(self.current, self.candidate, strict=True))
            if any(map(wanted, (*ours, *theirs)))
        ]
        return Pairs(
            task_ids=tuple(self.task_ids[index] for index in rows),
            current=tuple(self.current[index] for index in rows),
            candidate=tuple(self.candidate[index] for index in rows),
            missing=0,
            not_replayable=0,
        )


class Comparison(Frozen):
    """A paired difference with its interval, as reports show it; rates are None without a complete task."""

    tasks: int
    seeds: int
    rate_a: float | None
    rate_b: float | None
    difference: float | None
    ci95: Interval
    wins: int
    losses: int
    missing: int
    not_replayable: int


def pair(current: Sequence[TaskResult], candidate: Sequence[TaskResult]) -> Pairs:
    """Return the complete tasks of both sides, in the order of their ids.

    Raises:
        UsageError: one side has a task twice with the same seed.
    """
    ours, theirs = _by_key(current, "current"), _by_key(candidate, "candidate")
    task_ids = sorted({task_id for task_id, _ in (*ours, *theirs)})
    seeds = sorted({seed for _, seed in (*ours, *theirs)})
    complete = [task for task in task_ids if all((task, seed) in side for seed in seeds for side in (ours, theirs))]
    replayable = [task for task in complete if all(s[task, seed].replayable for seed in seeds for s in (ours, theirs))]
    return Pairs(
        task_ids=tuple(replayable),
        current=tuple(tuple(ours[task, seed] for seed in seeds) for task in replayable),
        candidate=tuple(tuple(theirs[task, seed] for seed in seeds) for task in replayable),
        missing=2 * len(task_ids) * len(seeds) - len(ours) - len(theirs),
        not_replayable=len(complete) - len(replayable),
    )


def compare(results_a: Sequence[TaskResult], results_b: Sequence[TaskResult]) -> Comparison:
    """Return how much better `results_b` is than `results_a` on the tasks that both have.

    Raises:
        UsageError: one side has a task twice with the same seed.
    """
    pairs = pair(results_a, results_b)
    differences = pairs.differences()
    totals = differences.sum(axis=1)
    return Comparison(
        tasks=len(totals),
        seeds=pairs.seeds,
        rate_a=success_rate(pairs.current),
        rate_b=success_rate(pairs.candidate),
        difference=float(differences.mean()) if len(totals) else None,
        ci95=bootstrap_interval(differences),
        wins=int((totals > 0).sum()),
        losses=int((totals < 0).sum()),
        missing=pairs.missing,
        not_replayable=pairs.not_replayable,
    )


def success_rate(side: Sequence[Sequence[TaskResult]]) -> float | None:
    """Return the share of successes among one side's runs; None without runs."""
    return float(_matrix(side, _succeeded).mean()) if side else None


def _by_key(results: Sequence[TaskResult], side: str) -> Mapping[_Key, TaskResult]:
    found = {(result.task_id, result.seed): result for result in results}
    if len(found) < len(results):
        raise UsageError(
            f"{len(results) - len(found)} of the {side} model's {len(results)} results repeat a task and seed",
            hint="Give each task once per seed.",
        )
    return found


def _matrix(side: Sequence[Sequence[TaskResult]], test: Callable[[TaskResult], bool]) -> NDArray[np.int64]:
    return np.array([[test(result) for result in row] for row in side], dtype=np.int64)


def _succeeded(result: TaskResult) -> bool:
    return result.outcome is OutcomeLabel.SUCCESS


def _unknown(result: TaskResult) -> bool:
    return result.outcome is OutcomeLabel.UNKNOWN
