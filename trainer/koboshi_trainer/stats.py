"""The statistics of paired comparisons: exact test, intervals, sample size.

A comparison is a matrix of differences, one row a task and one column a seed: +1 where only the candidate succeeded, -1
where only the current model did, 0 for a tie. Tasks are the independent unit; seeds of one task are never counted as
further tasks. Everything is deterministic: the test is exact, and the bootstrap has a fixed seed.
"""

from math import ceil, log2, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from koboshi_runtime.statistics import Interval

Differences = NDArray[np.int64]
"""Shape (tasks, seeds), values -1, 0, +1."""

_CHUNK = 1 << 22
_MOST_TASKS = 10**9


def binomial_pmf(n: int) -> NDArray[np.float64]:
    """Return P(X = k) for k in 0..n, X binomial with `n` trials of probability 1/2; shape (n + 1,)."""
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))))
    pmf: NDArray[np.float64] = np.exp(log_factorial[n] - log_factorial - log_factorial[::-1] - n * np.log(2.0))
    return pmf


def sign_flip_p(differences: Differences) -> float:
    """Return the exact one-sided p-value of "the candidate is not better".

    Under the hypothesis each task's summed difference is as likely to have the other sign. The p-value is the share of
    all sign assignments whose total is at least the one seen, by convolution, without drawing. With one seed this is
    the exact sign test on the discordant pairs (McNemar's), P(Binomial(wins + losses, 1/2) >= wins), without mid-p.

    Args:
        differences: shape (tasks, seeds).
    """
    totals = differences.sum(axis=1)
    sizes, counts = np.unique(np.abs(totals[totals != 0]), return_counts=True)
    distribution = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spread = np.zeros(size * count + 1)
        spread[::size] = binomial_pmf(count)
        distribution = np.convolve(distribution, spread)
    won = int(totals[totals > 0].sum())
    return float(min(1.0, distribution[won:].sum()))


def bootstrap_interval(
    differences: Differences, *, confidence: float = 0.95, draws: int = 4000, seed: int = 20
) -> Interval:
    """Return the percentile interval of the mean difference, resampling tasks and, within each, its seeds.

    With several seeds the interval is somewhat wide, since a task's mean already varies with its seeds. Where all tasks
    went alike there is nothing to resample, and certainty would be claimed of a handful: Bonett and Price's interval
    (see `lower_bound`) is given instead.

    Args:
        differences: shape (tasks, seeds); without tasks the interval is (-1, 1).
        confidence: two-sided.
        draws: how many resamples; 4000 place the ends of a 95 % interval to about a twentieth of its width.
        seed: equal seeds give equal intervals.
    """
    tasks, seeds = differences.shape
    if tasks == 0:
        return Interval(-1.0, 1.0)
    if np.ptp(differences.mean(axis=1)) == 0:
        return _adjusted_interval(differences, confidence)
    rng = np.random.default_rng(seed)
    means = _one_seed_means(differences, rng, draws) if seeds == 1 else _two_level_means(differences, rng, draws)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def lower_bound(differences: Differences, *, confidence: float = 0.95) -> float:
    """Return the one-sided lower bound of the mean difference after Bonett and Price (2012).

    Two tasks are added, one won and one lost, so that a few tasks that all tie prove little: 21 tied tasks are needed
    before -0.10 is excluded at 95 %. Shape of `differences`: (tasks, seeds).
    """
    mean, error = _adjusted(differences)
    return max(-1.0, mean - NormalDist().inv_cdf(confidence) * error)


def tasks_to_exclude(margin: float, differences: Differences, *, confidence: float = 0.95) -> int | None:
    """Return how many tasks like these put `lower_bound` above `-margin`; None if more would not help."""
    mean, error = _adjusted(differences)
    if mean <= -margin:
        return None
    n = len(differences) + 2
    return max(1, ceil((NormalDist().inv_cdf(confidence) * error / (mean + margin)) ** 2 * n) - 2)


def discordance(differences: Differences) -> float:
    """Return the mean square of the tasks' mean differences; with one seed, the share of discordant pairs."""
    return float((differences.mean(axis=1) ** 2).mean()) if len(differences) else 0.0


def tasks_needed(difference: float, discordance: float, *, alpha: float, power: float = 0.8) -> int:
    """Return how many tasks prove a true mean `difference` at one-sided `alpha` with probability `power`.

    Connor's formula for paired proportions (1987), plus 1 / difference because the exact test is discrete. Never more
    than 10^9, which stands for "out of reach".

    Args:
        difference: above 0, in shares (0.1 is ten points).
        discordance: share of discordant pairs; raised to `difference` where smaller, which it cannot truly be.
        alpha: one-sided.
        power: chance of the proof.
    """
    discordance = max(discordance, difference)
    if difference <= 0 or discordance >= difference * _MOST_TASKS:
        return _MOST_TASKS
    by_chance = NormalDist().inv_cdf(1 - alpha) * sqrt(discordance)
    by_power = NormalDist().inv_cdf(power) * sqrt(max(0.0, discordance - difference**2))
    smallest = _fewest_wins(alpha) / difference
    return min(_MOST_TASKS, ceil(max(smallest, ((by_chance + by_power) / difference) ** 2 + 1 / difference)))


def detectable_difference(tasks: int, discordance: float, *, alpha: float, power: float = 0.8) -> float | None:
    """Return the smallest true difference that `tasks` tasks prove with `power`; None if not even 1.0 is."""
    if tasks_needed(1.0, discordance, alpha=alpha, power=power) > tasks:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        enough = tasks_needed(middle, discordance, alpha=alpha, power=power) <= tasks
        low, high = (low, middle) if enough else (middle, high)
    return high


def _fewest_wins(alpha: float) -> int:
    """Return how many wins without a loss the exact test needs."""
    return ceil(-log2(alpha))


def _adjusted(differences: Differences) -> tuple[float, float]:
    means = differences.mean(axis=1) if len(differences) else np.zeros(0)
    n = len(means) + 2
    mean = float(means.sum()) / n
    variance = (float((means**2).sum()) + 2) / n - mean**2
    return mean, sqrt(variance / n)


def _adjusted_interval(differences: Differences, confidence: float) -> Interval:
    mean, error = _adjusted(differences)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


def _one_seed_means(differences: Differences, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    tasks = len(differences)
    shares = np.array([(differences == value).sum() for value in (-1, 0, 1)]) / tasks
    counts = rng.multinomial(tasks, shares, size=draws)
    means: NDArray[np.float64] = (counts[:, 2] - counts[:, 0]) / tasks
    return means


def _two_level_means(differences: Differences, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    tasks, seeds = differences.shape
    at_once = max(1, _CHUNK // differences.size)
    means = []
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        rows = rng.integers(tasks, size=(size, tasks, 1))
        columns = rng.integers(seeds, size=(size, tasks, seeds))
        means.append(differences[rows, columns].mean(axis=(1, 2)))
    return np.concatenate(means)
