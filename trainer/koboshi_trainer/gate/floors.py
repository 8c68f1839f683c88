"""What a candidate must not lose: success with each tool, and the validity of its calls.

A floor is a test of non-inferiority: it holds where a loss of the margin is excluded, not where none was seen. So few
data refuse, and the row says how many more tasks would settle it.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from koboshi_runtime.statistics import TaskResult, ToolUse

from ..pairs import Pairs, success_rate
from ..stats import lower_bound, sign_flip_p, tasks_to_exclude
from .values import GateFloors, InvalidCallRow, LevelRow, ToolRow

# Of fewer calls a rate says nothing: its error alone is larger than any margin.
_FEW_CALLS = 20

_Side = Sequence[Sequence[TaskResult]]


def tool_rows(pairs: Pairs, floors: GateFloors) -> tuple[ToolRow, ...]:
    """Return one row a tool that any run called, by name."""
    runs = [run for side in (pairs.current, pairs.candidate) for row in side for run in row]
    names = sorted({use.name for run in runs for use in run.tools})
    return tuple(_tool_row(name, pairs, floors) for name in names)


def level_rows(pairs: Pairs) -> tuple[LevelRow, ...]:
    """Return one row a level, by name; tasks without a level are left out."""
    levels = sorted({row[0].level for row in pairs.current if row[0].level is not None})
    return tuple(_level_row(level, pairs) for level in levels)


def invalid_call_row(pairs: Pairs, floors: GateFloors) -> InvalidCallRow:
    """Return the row of invalid calls; it holds where either side began no call, since then there is no rate.

    A rise is excluded by the candidate's rate alone, as no rate is below none at all, or by the difference of the two
    rates; a current model that hardly calls anything excuses no candidate whose own rate is above the margin. The
    bounds are Wald's for ratios, with tasks as the unit, after one valid and one invalid call are added to a side
    (Agresti and Caffo, 2000): without them, no invalid call among few would prove too much.
    """
    current, candidate = _calls(pairs.current), _calls(pairs.candidate)
    before, after = _rate(current), _rate(candidate)
    if before is None or after is None:
        return InvalidCallRow(current_rate=before, candidate_rate=after, upper_bound=None, held=True, more_tasks=None)
    quantile, tasks = NormalDist().inv_cdf(floors.confidence), len(pairs.task_ids)
    rises = [(after, *_ratio(candidate))]
    if current[1].sum() >= _FEW_CALLS or after < floors.invalid_margin:
        rises.append((after - before, *_ratio_difference(current, candidate)))
    bounds = [(seen, estimate + quantile * error) for seen, estimate, error in rises]
    bound = min(bound for _, bound in bounds)
    held = bound < floors.invalid_margin
    more = [_more(bound - seen, floors.invalid_margin - seen, tasks) for seen, bound in bounds]
    least = None if held else min((number for number in more if number is not None), default=None)
    return InvalidCallRow(current_rate=before, candidate_rate=after, upper_bound=bound, held=held, more_tasks=least)


def _tool_row(name: str, pairs: Pairs, floors: GateFloors) -> ToolRow:
    users = pairs.only(lambda run: any(use.name == name for use in run.tools))
    differences = users.differences()
    bound = lower_bound(differences, confidence=floors.confidence)
    share = len(users.task_ids) / len(pairs.task_ids)
    judged = share >= floors.tool_min_share
    evident_loss = sign_flip_p(-differences) <= 1 - floors.confidence
    held = bound > -floors.tool_margin if judged else not evident_loss
    current_uses, candidate_uses = _uses(users.current, name), _uses(users.candidate, name)
    needed = tasks_to_exclude(floors.tool_margin, differences, confidence=floors.confidence)
    return ToolRow(
        tool=name,
        tasks=len(users.task_ids),
        current_rate=success_rate(users.current) or 0.0,
        candidate_rate=success_rate(users.candidate) or 0.0,
        difference=float(differences.mean()),
        lower_bound=bound,
        judged=judged,
        held=held,
        more_tasks=None if held or not judged or needed is None else ceil((needed - len(users.task_ids)) / share),
        current_calls=sum(use.calls for use in current_uses),
        current_failures=sum(use.failures for use in current_uses),
        candidate_calls=sum(use.calls for use in candidate_uses),
        candidate_failures=sum(use.failures for use in candidate_uses),
    )


def _level_row(level: str, pairs: Pairs) -> LevelRow:
    of_level = pairs.only(lambda run: run.level == level)
    return LevelRow(
        level=level,
        tasks=len(of_level.task_ids),
        current_rate=success_rate(of_level.current) or 0.0,
        candidate_rate=success_rate(of_level.candidate) or 0.0,
        difference=float(of_level.differences().mean()),
    )


def _uses(side: _Side, name: str) -> list[ToolUse]:
    return [use for row in side for run in row for use in run.tools if use.name == name]


def _calls(side: _Side) -> NDArray[np.float64]:
    """Return invalid calls and calls begun, shape (2, tasks)."""
    counts = [(sum(run.invalid_calls for run in row), sum(run.calls_begun for run in row)) for row in side]
    return np.array(counts, dtype=np.float64).reshape(-1, 2).T


def _rate(calls: NDArray[np.float64]) -> float | None:
    invalid, begun = calls.sum(axis=1)
    return float(invalid / begun) if begun else None


def _ratio_difference(current: NDArray[np.float64], candidate: NDArray[np.float64]) -> tuple[float, float]:
    """Return candidate minus current and its standard error, two calls, one of them invalid, added to each side."""
    (before, before_parts, before_added), (after, after_parts, after_added) = _spread(current), _spread(candidate)
    variance = float(((after_parts - before_parts) ** 2).sum()) + before_added + after_added
    return after - before, sqrt(variance)


def _ratio(calls: NDArray[np.float64]) -> tuple[float, float]:
    """Return the rate of invalid calls and its standard error, two calls, one of them invalid, added."""
    rate, parts, added = _spread(calls)
    return rate, sqrt(float((parts**2).sum()) + added)


def _spread(calls: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], float]:
    """Return a rate, what each task moves it by (tasks,), and the variance that the two added calls bring."""
    invalid, begun = calls
    total = begun.sum() + 2
    rate = float((invalid.sum() + 1) / total)
    return rate, (invalid - rate * begun) / total, (rate**2 + (1 - rate) ** 2) / float(total) ** 2


def _more(half: float, room: float, tasks: int) -> int | None:
    """Return how many tasks more shrink `half` below `room`, since it falls with the root of their number."""
    return max(1, ceil(tasks * (half / room) ** 2) - tasks) if room > 0 else None
