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

    The bound is Wald's for a difference of two ratios, with tasks as the unit, after one valid and one invalid call are
    added to each side (Agresti and Caffo, 2000): without them, no invalid call among few would prove too much.
    """
    current, candidate = _calls(pairs.current), _calls(pairs.candidate)
    rates = {"current_rate": _rate(current), "candidate_rate": _rate(candidate)}
    if None in rates.values():
        return InvalidCallRow(**rates, upper_bound=None, held=True, more_tasks=None)
    difference, error = _ratio_difference(current, candidate)
    half = NormalDist().inv_cdf(floors.confidence) * error
    held = difference + half < floors.invalid_margin
    return InvalidCallRow(
        **rates,
        upper_bound=difference + half,
        held=held,
        more_tasks=None if held else _more(half, floors.invalid_margin - difference, len(pairs.task_ids)),
    )


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
    rates, influences, added = [], [], 0.0
    for invalid, begun in (current, candidate):
        total = begun.sum() + 2
        rate = (invalid.sum() + 1) / total
        rates.append(float(rate))
        influences.append((invalid - rate * begun) / total)
        added += float(rate**2 + (1 - rate) ** 2) / total**2
    variance = float(((influences[1] - influences[0]) ** 2).sum()) + added
    return rates[1] - rates[0], sqrt(variance)


def _more(half: float, room: float, tasks: int) -> int | None:
    """Return how many tasks more shrink `half` below `room`, since it falls with the root of their number."""
    return max(1, ceil(tasks * (half / room) ** 2) - tasks) if room > 0 else None
