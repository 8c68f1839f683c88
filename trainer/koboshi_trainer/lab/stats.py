"""Rates and paired differences over tasks and seeds.

Outcomes are a matrix, one row a task and one column a seed. Tasks and training seeds are crossed: a seed that trained
badly does so on every task. So a resample draws tasks and, independently, seeds, and takes their product; with three
seeds that is honest about the spread that was seen and cannot know a wider one. Two rows of a table are compared on the
same tasks and the same seeds; a model without seeds of its own stands beside each.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from koboshi_tools import Frozen

from .results import SUCCESS_MARK

Outcomes = NDArray[np.float64]
"""Shape (tasks, seeds), 1 for a success."""

_DRAWS = 4000
_SEED = 20


class Estimate(Frozen):
    """A mean with its 95 % interval, as shares."""

    value: float
    low: float
    high: float


def matrix(by_seed: Mapping[int, str], seeds: Sequence[int]) -> Outcomes:
    """Return the marks of `seeds` as a matrix with a column for each."""
    return np.array([[float(mark == SUCCESS_MARK) for mark in by_seed[seed]] for seed in seeds]).T


def estimate(values: Outcomes) -> Estimate:
    """Return the mean of `values` (tasks, seeds) with its percentile interval over crossed resamples."""
    tasks, seeds = values.shape
    rng = np.random.default_rng(_SEED)
    rows = rng.multinomial(tasks, [1 / tasks] * tasks, size=_DRAWS) / tasks
    columns = rng.multinomial(seeds, [1 / seeds] * seeds, size=_DRAWS) / seeds
    means = ((rows @ values) * columns).sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(value=float(values.mean()), low=float(low), high=float(high))


def difference(left: Outcomes, right: Outcomes) -> Estimate:
    """Return the paired estimate of `left` - `right` on the tasks that both have; seeds must agree."""
    tasks = min(len(left), len(right))
    return estimate(left[:tasks] - right[:tasks])
