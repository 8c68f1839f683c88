"""Simulated weeks after a swap: a drop of 15 points is caught within 300 runs, and noise takes hardly a model out."""

import random
from collections import defaultdict

import pytest

from koboshi_policies.sequential import ALPHA, LEAST, Tally, drop_evidence
from koboshi_runtime.store.watch import COUNTED, Group
from koboshi_runtime.watch import compare_groups, mean_evidence

_TOOLS = ("sql", "files", "calculator")
_SHARES = (5, 3, 2)
_WEEK_RUNS = 700


class _Work:
    """Runs of one project, each with one tool."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tallies: dict[Group, Tally] = defaultdict(Tally)

    def run(self, rate: float) -> None:
        (tool,) = self.rng.choices(_TOOLS, _SHARES)
        good = int(self.rng.random() < rate)
        for group in (Group("shop", None), Group("shop", tool)):
            old = self.tallies[group]
            self.tallies[group] = Tally.model_construct(successes=old.successes + good, total=old.total + 1)


def _runs_until_rollback(rng: random.Random, before: float, after: float, most: int) -> int | None:
    """Return after how many runs the watch goes back, looking after each of them; None if it does not."""
    old, new = _Work(rng), _Work(rng)
    for _ in range(COUNTED):
        old.run(before)
    for number in range(1, most + 1):
        new.run(after)
        if mean_evidence(compare_groups(old.tallies, new.tallies)) >= 1 / ALPHA:
            return number
    return None


@pytest.mark.slow
@pytest.mark.parametrize("before", [0.5, 0.7, 0.9])
def test_a_drop_of_15_points_is_caught_within_300_runs_in_90_of_100(before: float) -> None:
    rng = random.Random(f"drop {before}")
    caught = [_runs_until_rollback(rng, before, before - 0.15, 300) for _ in range(100)]
    assert sum(number is not None for number in caught) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.7, 0.9])
def test_noise_rolls_back_in_at_most_5_of_100_weeks(rate: float) -> None:
    rng = random.Random(f"noise {rate}")
    weeks = [_runs_until_rollback(rng, rate, rate, _WEEK_RUNS) for _ in range(100)]
    assert sum(number is not None for number in weeks) <= 5


def test_a_better_model_is_no_evidence_of_a_drop() -> None:
    old = Tally(successes=500, total=1000)
    assert drop_evidence(old, Tally(successes=80, total=100)) < 0.1
    assert drop_evidence(old, Tally(successes=20, total=100)) > 1e6


def test_nothing_is_said_of_a_handful() -> None:
    assert drop_evidence(Tally(successes=500, total=500), Tally(successes=0, total=LEAST - 1)) == 1.0
