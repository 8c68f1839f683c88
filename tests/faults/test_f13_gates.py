"""F13: gates that must refuse, the error rate over a night and a month, and the power for a better candidate.

Outcomes are drawn from stored ones: a matrix of tasks by samples at T > 0, made here by giving each task its own chance
of success (a beta distribution, so that many tasks are nearly always or nearly never solved). Two draws from the same
row are what two evaluations of identical models are.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.statistics import TaskResult, ToolUse, wilson_interval
from koboshi_trainer.gate.judge import judge_gate
from koboshi_trainer.gate.ledger import Grant, allowance
from koboshi_trainer.gate.tasks import plan_tasks
from koboshi_trainer.gate.values import GateBudget, ReasonCode
from koboshi_trainer.stats import binomial_pmf

POOL = 600
SAMPLES = 16
FIRST = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
TOOLS = ((ToolUse("sql", 2),), (ToolUse("sql", 1), ToolUse("calculator", 1)), (ToolUse("sql", 1),))
LABELS = (OutcomeLabel.FAILURE, OutcomeLabel.SUCCESS)


def chances(rng: np.random.Generator, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Chances of success of the current model and of one better by `gain` on average, shape (tasks,) each.

    Beta(0.9, 0.9) has mean 0.5, and two draws from one row differ on some 32 % of the tasks. The candidate solves a
    part of what the current model fails, so that it is better on every task.
    """
    current = rng.beta(0.9, 0.9, size=POOL)
    return current, current + gain * (1 - current) / (1 - current).mean()


def stored(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    return rng.random((len(chance), SAMPLES)) < chance[:, None]


def draw(rng: np.random.Generator, outcomes: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    drawn: np.ndarray = outcomes[tasks, rng.integers(SAMPLES, size=len(tasks))].astype(int)
    return drawn


def results(tasks: np.ndarray, drawn: np.ndarray) -> list[TaskResult]:
    return [
        TaskResult(str(task), 0, LABELS[success], TOOLS[task % 3], calls_begun=2, invalid_calls=int(task % 25 == 0))
        for task, success in zip(tasks.tolist(), drawn.tolist(), strict=True)
    ]


def accepted(rng: np.random.Generator, current: np.ndarray, candidate: np.ndarray, *, tasks: int, alpha: float) -> bool:
    chosen = rng.choice(POOL, size=tasks, replace=False)
    before, after = (results(chosen, draw(rng, outcomes, chosen)) for outcomes in (current, candidate))
    return judge_gate(before, after, GateBudget(grant_id="g", alpha=alpha), planned_runs=tasks).accepted


def nightly_alphas(nights: int) -> list[float]:
    grants: list[Grant] = []
    for night in range(nights):
        at = FIRST + night * timedelta(days=1)
        alpha = allowance(grants, at)
        grants.append(
            Grant(grant_id=str(night), at=at, nightly=alpha.nightly, pooled=alpha.pooled, current="a", candidate="b")
        )
    return [grant.alpha for grant in grants]


def fewest_wins(alpha: float) -> np.ndarray:
    """Wins that the exact test asks for, by the number of discordant pairs."""
    tails = [np.append(binomial_pmf(m)[::-1].cumsum()[::-1], 0.0) for m in range(POOL + 1)]
    return np.array([int(np.argmax(tail <= alpha)) for tail in tails])


def months_with_a_promotion(rng: np.random.Generator, months: int, alphas: list[float]) -> int:
    """Null months by the exact test alone: the floors can only refuse more."""
    needed = {alpha: fewest_wins(alpha) for alpha in set(alphas)}
    promoted = 0
    for _ in range(months):
        outcomes = stored(rng, chances(rng)[0])
        shape = (2, len(alphas), POOL)
        current, candidate = outcomes[np.arange(POOL), rng.integers(SAMPLES, size=shape)].astype(int)
        wins, losses = (candidate > current).sum(axis=1), (candidate < current).sum(axis=1)
        promoted += any(won >= needed[alpha][won + lost] for won, lost, alpha in zip(wins, losses, alphas, strict=True))
    return promoted


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(13)


def test_noise_is_refused_on_every_night_of_a_month(rng: np.random.Generator) -> None:
    outcomes = stored(rng, chances(rng)[0])
    alphas = nightly_alphas(30)
    assert not any(accepted(rng, outcomes, outcomes, tasks=POOL, alpha=alpha) for alpha in alphas)


def test_worse_candidate_is_refused(rng: np.random.Generator) -> None:
    current, better = chances(rng, 0.1)
    for _ in range(20):
        assert not accepted(rng, stored(rng, better), stored(rng, current), tasks=POOL, alpha=0.008)


def test_better_candidate_of_a_crashed_evaluation_is_refused(rng: np.random.Generator) -> None:
    tasks = np.arange(POOL)
    current, candidate = results(tasks, np.zeros(POOL, int)), results(tasks, np.ones(POOL, int))
    verdict = judge_gate(current, candidate[:400], GateBudget(grant_id="g", alpha=0.008), planned_runs=POOL)
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.MISSING_RESULTS]


def test_better_candidate_on_too_few_tasks_is_refused(rng: np.random.Generator) -> None:
    current, better = chances(rng, 0.1)
    assert not accepted(rng, stored(rng, current), stored(rng, better), tasks=30, alpha=0.008)


def test_ties_of_models_that_answer_alike_are_refused(rng: np.random.Generator) -> None:
    tasks = np.arange(POOL)
    same = results(tasks, rng.integers(2, size=POOL))
    assert not judge_gate(same, same, GateBudget(grant_id="g", alpha=0.008)).accepted


def test_at_most_5_of_100_null_months_have_any_promotion(rng: np.random.Generator) -> None:
    assert months_with_a_promotion(rng, 200, nightly_alphas(30)) <= 10


def test_later_null_months_promote_no_more_than_the_first(rng: np.random.Generator) -> None:
    assert months_with_a_promotion(rng, 200, nightly_alphas(90)[60:]) <= 10


@pytest.mark.slow
def test_upper_bound_of_acceptance_of_identical_models_is_5_percent() -> None:
    rng = np.random.default_rng(1313)
    alpha = nightly_alphas(1)[0]
    count = 0
    for _ in range(2000):
        outcomes = stored(rng, chances(rng)[0])
        count += accepted(rng, outcomes, outcomes, tasks=300, alpha=alpha)
    assert wilson_interval(count / 2000, 2000).high <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("night", [0, 6, 29])
def test_candidate_better_by_ten_points_is_accepted_in_80_of_100(night: int) -> None:
    rng = np.random.default_rng(100 + night)
    alpha = nightly_alphas(30)[night]
    tasks = min(POOL, plan_tasks(alpha))
    count = 0
    for _ in range(400):
        current, better = chances(rng, 0.1)
        count += accepted(rng, stored(rng, current), stored(rng, better), tasks=tasks, alpha=alpha)
    assert count / 400 >= 0.8
