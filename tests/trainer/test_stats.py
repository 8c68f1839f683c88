"""The exact test against brute force, the intervals against coverage, the sample size against simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_trainer.stats import (
    binomial_pmf,
    bootstrap_interval,
    detectable_difference,
    discordance,
    lower_bound,
    sign_flip_p,
    tasks_needed,
    tasks_to_exclude,
)


def one_seed(wins: int, losses: int, ties: int = 0) -> np.ndarray:
    return np.array([1] * wins + [-1] * losses + [0] * ties, dtype=np.int64).reshape(-1, 1)


def drawn(rng: np.random.Generator, tasks: int, difference: float, share: float) -> np.ndarray:
    chances = [(share - difference) / 2, 1 - share, (share + difference) / 2]
    return rng.choice([-1, 0, 1], size=(tasks, 1), p=chances)


def test_one_seed_is_the_exact_sign_test() -> None:
    assert sign_flip_p(one_seed(9, 1, 40)) == pytest.approx(11 / 1024)


def test_no_discordant_pair_proves_nothing() -> None:
    assert sign_flip_p(one_seed(0, 0, 100)) == 1.0
    assert sign_flip_p(np.zeros((0, 0), dtype=np.int64)) == 1.0


@given(st.lists(st.lists(st.integers(-1, 1), min_size=3, max_size=3), min_size=1, max_size=8))
def test_p_value_is_the_share_of_all_sign_assignments_that_reach_the_total(rows: list[list[int]]) -> None:
    differences = np.array(rows, dtype=np.int64)
    totals = differences.sum(axis=1)
    reached = [np.dot(signs, np.abs(totals)) >= totals.sum() for signs in product((-1, 1), repeat=len(totals))]
    assert sign_flip_p(differences) == pytest.approx(np.mean(reached))


def test_repeating_every_seed_adds_no_evidence() -> None:
    differences = one_seed(30, 15, 100)
    assert sign_flip_p(np.repeat(differences, 4, axis=1)) == pytest.approx(sign_flip_p(differences))


def test_distribution_of_a_large_gate_sums_to_one() -> None:
    assert binomial_pmf(5000).sum() == pytest.approx(1.0, abs=1e-9)


def test_equal_seeds_give_equal_intervals_and_the_mean_lies_inside() -> None:
    differences = one_seed(60, 30, 210)
    low, high = bootstrap_interval(differences)
    assert (low, high) == bootstrap_interval(differences)
    assert low < 0.1 < high


def test_two_level_interval_is_not_narrowed_by_copied_seeds() -> None:
    differences = one_seed(60, 30, 210)
    low, high = bootstrap_interval(differences)
    copied_low, copied_high = bootstrap_interval(np.repeat(differences, 3, axis=1))
    assert copied_high - copied_low == pytest.approx(high - low, rel=0.1)


def test_interval_without_tasks_is_everything() -> None:
    assert bootstrap_interval(np.zeros((0, 0), dtype=np.int64)) == (-1.0, 1.0)


@pytest.mark.parametrize("tasks", [5, 50])
def test_interval_of_tasks_that_all_went_alike_claims_no_certainty(tasks: int) -> None:
    tied, won = bootstrap_interval(one_seed(0, 0, tasks)), bootstrap_interval(one_seed(tasks, 0))
    assert tied.low == -tied.high == pytest.approx(-1.96 * 2**0.5 / (tasks + 2), rel=1e-3)
    assert 1 - 6 / tasks < won.low < won.high == 1


def test_bootstrap_interval_covers_the_true_difference_in_95_of_100() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(drawn(rng, 300, 0.1, 0.3), draws=1000) for _ in range(400)]
    assert np.mean([low <= 0.1 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.03)


def test_lower_bound_is_below_the_true_difference_in_95_of_100() -> None:
    rng = np.random.default_rng(2)
    covered = [lower_bound(drawn(rng, 40, -0.1, 0.3)) <= -0.1 for _ in range(2000)]
    assert np.mean(covered) >= 0.94


def test_few_ties_do_not_exclude_a_loss_of_ten_points() -> None:
    assert lower_bound(one_seed(0, 0, 20)) < -0.1 < lower_bound(one_seed(0, 0, 30))


def test_tasks_to_exclude_is_about_enough_and_none_where_the_loss_is_there() -> None:
    differences = one_seed(6, 6, 28)
    needed = tasks_to_exclude(0.1, differences)
    assert needed is not None
    assert lower_bound(np.repeat(differences, needed // 40 + 1, axis=0)) > -0.1
    assert tasks_to_exclude(0.1, one_seed(2, 20, 18)) is None


@pytest.mark.parametrize("alpha", [0.00067, 0.008, 0.05])
@pytest.mark.parametrize("share", [0.15, 0.25, 0.35])
def test_as_many_tasks_as_asked_for_reach_the_power(alpha: float, share: float) -> None:
    tasks = tasks_needed(0.1, share, alpha=alpha, power=0.8)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(tasks, [(share + 0.1) / 2, (share - 0.1) / 2, 1 - share], size=2000)
    power = np.mean([binomial_pmf(wins + losses)[wins:].sum() <= alpha for wins, losses, _ in counts])
    assert 0.78 < power < 0.88


def test_more_difference_needs_fewer_tasks_and_none_is_out_of_reach() -> None:
    needed = [tasks_needed(difference, 0.3, alpha=0.005) for difference in (0.0, 0.01, 0.05, 0.1, 0.3)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == 10**9


def test_detectable_difference_inverts_tasks_needed() -> None:
    found = detectable_difference(tasks_needed(0.1, 0.3, alpha=0.005), 0.3, alpha=0.005)
    assert found == pytest.approx(0.1, abs=1e-3)
    assert detectable_difference(3, 0.3, alpha=0.005) is None


def test_discordance_of_one_seed_is_the_share_of_discordant_pairs() -> None:
    assert discordance(one_seed(3, 2, 5)) == 0.5
