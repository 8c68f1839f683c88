"""Intervals over tasks and seeds, pairs on the same of both, and areas within tasks."""

import numpy as np
import pytest

from koboshi_trainer.auroc import Scored, paired_auroc
from koboshi_trainer.lab.stats import difference, estimate, matrix


@pytest.mark.slow
def test_interval_of_a_rate_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        # Seeds differ in skill, by 3 points: an interval over tasks alone would miss the truth more often.
        skill = np.clip(0.4 + 0.03 * rng.standard_normal(8), 0, 1)
        found = estimate((rng.random((150, 8)) < skill).astype(float))
        held += found.low <= 0.4 <= found.high
    assert 0.85 <= held / 200 <= 1.0


def test_interval_is_wider_where_seeds_disagree() -> None:
    even = np.tile([[1.0], [0.0]], (100, 3))
    split = np.tile([[1.0, 0.5, 0.0]], (200, 1))
    assert even.mean() == split.mean() == 0.5
    wide, narrow = estimate(split), estimate(even)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_difference_is_paired_on_the_tasks_that_both_have() -> None:
    left, right = matrix({0: "1110", 1: "1100"}, [0, 1]), matrix({0: "1010", 1: "1000"}, [0, 1])
    assert difference(left, right).value == pytest.approx(0.25)
    assert difference(left[:2], right).value == pytest.approx(0.5)
    assert difference(left, left).low == difference(left, left).high == 0


def test_area_compares_within_tasks_only() -> None:
    # Across tasks the score knows nothing of success but all of the task; within each it is right.
    scored = [
        Scored("easy", True, 9.0),
        Scored("easy", False, 8.0),
        Scored("hard", True, 2.0),
        Scored("hard", False, 1.0),
    ]
    found = paired_auroc(scored)
    assert (found.value, found.pairs, found.tasks) == (1.0, 2, 2)


def test_area_counts_ties_half_and_is_none_without_pairs() -> None:
    assert paired_auroc([Scored("a", True, 1.0), Scored("a", False, 1.0)]).value == 0.5
    assert paired_auroc([Scored("a", True, 1.0), Scored("b", False, 0.0)]).value is None
