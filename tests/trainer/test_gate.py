"""What a gate accepts, and each reason for which it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.statistics import TaskResult, ToolUse
from koboshi_tools import UsageError
from koboshi_trainer.gate.floors import invalid_call_row
from koboshi_trainer.gate.judge import judge_gate
from koboshi_trainer.gate.reasons import explain
from koboshi_trainer.gate.values import GateBudget, GateFloors, GateVerdict, ReasonCode
from koboshi_trainer.pairs import compare, pair

BUDGET = GateBudget(grant_id="g1", alpha=0.01)
LABELS = {"+": OutcomeLabel.SUCCESS, "-": OutcomeLabel.FAILURE, "?": OutcomeLabel.UNKNOWN}


def side(labels: str, *, seed: int = 0, **fields: Any) -> list[TaskResult]:
    """One result a letter: `+` succeeded, `-` failed, `?` unknown."""
    return [TaskResult(f"t{i:04}", seed, LABELS[label], **fields) for i, label in enumerate(labels)]


def two_sides(
    wins: int, losses: int, both: int = 100, neither: int = 100, **fields: Any
) -> tuple[list[TaskResult], list[TaskResult]]:
    current = "-" * wins + "+" * losses + "+" * both + "-" * neither
    candidate = "+" * wins + "-" * losses + "+" * both + "-" * neither
    return side(current, **fields), side(candidate, **fields)


def codes(verdict: GateVerdict) -> set[ReasonCode]:
    return {reason.code for reason in verdict.reasons}


def test_clearly_better_candidate_is_accepted_with_its_numbers() -> None:
    verdict = judge_gate(*two_sides(60, 20), BUDGET)
    assert verdict.accepted
    assert verdict.reasons == ()
    assert (verdict.tasks, verdict.wins, verdict.losses, verdict.ties) == (280, 60, 20, 200)
    assert verdict.p_value < verdict.alpha == 0.01
    assert verdict.difference is not None
    assert verdict.difference == pytest.approx(40 / 280)
    assert verdict.ci95.low < verdict.difference < verdict.ci95.high
    assert (verdict.current_rate, verdict.candidate_rate) == (120 / 280, 160 / 280)


def test_worse_candidate_is_refused_and_more_tasks_are_not_asked_for() -> None:
    verdict = judge_gate(*two_sides(20, 60), BUDGET)
    assert codes(verdict) == {ReasonCode.NOT_BETTER}
    assert verdict.more_tasks is None


def test_ties_are_refused() -> None:
    assert codes(judge_gate(*two_sides(0, 0), BUDGET)) == {ReasonCode.NOT_BETTER}
    assert codes(judge_gate(*two_sides(30, 30), BUDGET)) == {ReasonCode.NOT_BETTER}


def test_unproved_gain_is_refused_and_says_how_many_more_tasks_would_prove_it() -> None:
    verdict = judge_gate(*two_sides(45, 30), BUDGET)
    assert codes(verdict) == {ReasonCode.NOT_PROVED}
    assert verdict.more_tasks is not None
    times = 1 + verdict.more_tasks // verdict.tasks
    assert judge_gate(*two_sides(45 * times, 30 * times, 100 * times, 100 * times), BUDGET).accepted


def test_too_few_tasks_are_refused_however_well_they_went() -> None:
    verdict = judge_gate(*two_sides(20, 0, 0, 0), BUDGET)
    assert codes(verdict) == {ReasonCode.TOO_FEW_TASKS}
    assert verdict.more_tasks == 30


def test_no_results_at_all_are_refused() -> None:
    verdict = judge_gate([], [], BUDGET, planned_runs=300)
    assert codes(verdict) == {ReasonCode.MISSING_RESULTS, ReasonCode.TOO_FEW_TASKS, ReasonCode.NOT_BETTER}
    assert (verdict.missing, verdict.current_rate, verdict.difference) == (600, None, None)


@pytest.mark.parametrize("crashed", ["current", "candidate"])
def test_crash_of_one_evaluation_is_refused(crashed: str) -> None:
    current, candidate = two_sides(60, 20)
    sides = (current[:-1], candidate) if crashed == "current" else (current, candidate[:-1])
    verdict = judge_gate(*sides, BUDGET)
    assert codes(verdict) == {ReasonCode.MISSING_RESULTS}
    assert (verdict.missing, verdict.tasks) == (1, 279)


def test_task_that_crashed_on_both_sides_is_missed() -> None:
    current, candidate = two_sides(60, 20)
    verdict = judge_gate(current[:-1], candidate[:-1], BUDGET, planned_runs=280)
    assert codes(verdict) == {ReasonCode.MISSING_RESULTS}
    assert verdict.missing == 2


def test_task_that_lacks_a_seed_is_missed() -> None:
    current, candidate = two_sides(60, 20)
    more_current, more_candidate = two_sides(60, 20, seed=1)
    verdict = judge_gate(current + more_current[1:], candidate + more_candidate[1:], BUDGET)
    assert verdict.missing == 2
    assert verdict.tasks == 279


def test_result_given_twice_is_wrong_usage() -> None:
    current, candidate = two_sides(60, 20)
    with pytest.raises(UsageError, match="1 of the current model's 281 results repeat"):
        judge_gate([*current, current[0]], candidate, BUDGET)


def test_unknown_of_the_candidate_is_not_a_success() -> None:
    verdict = judge_gate(side("-" * 60 + "+" * 240), side("?" * 20 + "-" * 40 + "+" * 240), BUDGET)
    assert (verdict.wins, verdict.candidate_unknown) == (0, 20)


def test_unknown_of_the_current_model_is_not_a_win_for_the_candidate() -> None:
    verdict = judge_gate(side("?" * 25 + "+" * 275), side("+" * 300), BUDGET)
    assert (verdict.wins, verdict.losses) == (0, 0)
    assert codes(verdict) == {ReasonCode.NOT_BETTER}


def test_evaluation_that_judged_too_little_is_refused() -> None:
    verdict = judge_gate(side("-" * 60 + "+" * 240), side("+" * 260 + "?" * 40), BUDGET)
    assert ReasonCode.TOO_MANY_UNKNOWN in codes(verdict)


def test_task_that_could_not_be_replayed_is_left_out_and_counted() -> None:
    current, candidate = two_sides(60, 20)
    lost = TaskResult("t9999", 0, OutcomeLabel.FAILURE)
    stuck = TaskResult("t9999", 0, OutcomeLabel.UNKNOWN, replayable=False)
    verdict = judge_gate([*current, lost], [*candidate, stuck], BUDGET)
    assert verdict.accepted
    assert (verdict.tasks, verdict.not_replayable, verdict.missing) == (280, 1, 0)


def test_too_many_tasks_that_could_not_be_replayed_are_refused() -> None:
    current, candidate = two_sides(60, 20)
    stuck = [TaskResult(f"s{i}", 0, OutcomeLabel.UNKNOWN, replayable=False) for i in range(20)]
    verdict = judge_gate(current + stuck, candidate + stuck, BUDGET)
    assert codes(verdict) == {ReasonCode.TOO_MANY_NOT_REPLAYABLE}


def test_copied_seeds_do_not_help_a_candidate() -> None:
    once = judge_gate(*two_sides(45, 30), BUDGET)
    sides = [two_sides(45, 30, seed=seed) for seed in range(5)]
    five = judge_gate([r for a, _ in sides for r in a], [r for _, b in sides for r in b], BUDGET)
    assert five.p_value == pytest.approx(once.p_value)
    assert (five.tasks, five.seeds) == (once.tasks, 5)


def test_success_that_falls_with_one_tool_is_refused_although_the_whole_rises() -> None:
    sql, search = (ToolUse("sql", 2),), (ToolUse("search", 1, failures=1),)
    gain, loss = two_sides(90, 10, tools=sql), two_sides(5, 25, 20, 10, tools=search)
    rename = [TaskResult(f"x{r.task_id}", 0, r.outcome, r.tools) for side_ in loss for r in side_]
    verdict = judge_gate(gain[0] + rename[:60], gain[1] + rename[60:], BUDGET)
    assert codes(verdict) == {ReasonCode.TOOL_WORSE}
    rows = {row.tool: row for row in verdict.tools}
    assert (rows["sql"].held, rows["search"].held) == (True, False)
    assert (rows["search"].tasks, rows["search"].candidate_calls, rows["search"].candidate_failures) == (60, 60, 60)


def test_tool_with_too_little_evidence_is_refused_and_says_how_many_more_tasks() -> None:
    gain = two_sides(60, 10, 50, 50)
    few = two_sides(5, 5, 6, 6, tools=(ToolUse("search", 1),))
    rename = [TaskResult(f"x{r.task_id}", 0, r.outcome, r.tools) for side_ in few for r in side_]
    verdict = judge_gate(gain[0] + rename[:22], gain[1] + rename[22:], BUDGET)
    assert codes(verdict) == {ReasonCode.TOOL_NOT_PROVED}
    assert verdict.more_tasks is not None
    assert verdict.more_tasks > 100


def test_tool_too_rare_to_be_judged_does_not_refuse() -> None:
    current, candidate = two_sides(60, 20)
    rare = TaskResult("x", 0, OutcomeLabel.SUCCESS, (ToolUse("files", 1),))
    verdict = judge_gate([*current, rare], [*candidate, rare], BUDGET)
    assert verdict.accepted
    assert not verdict.tools[0].judged


def test_rare_tool_that_evidently_broke_refuses() -> None:
    current, candidate = two_sides(60, 20)
    tools = (ToolUse("files", 1),)
    worked = [TaskResult(f"x{i}", 0, OutcomeLabel.SUCCESS, tools) for i in range(5)]
    broken = [TaskResult(f"x{i}", 0, OutcomeLabel.FAILURE, tools) for i in range(5)]
    assert codes(judge_gate(current + worked, candidate + broken, BUDGET)) == {ReasonCode.TOOL_WORSE}


def test_more_invalid_calls_are_refused() -> None:
    current, _ = two_sides(60, 20, calls_begun=3)
    _, candidate = two_sides(60, 20, calls_begun=3, invalid_calls=1)
    verdict = judge_gate(current, candidate, BUDGET)
    assert codes(verdict) == {ReasonCode.INVALID_CALLS_WORSE}
    assert verdict.invalid_calls.candidate_rate == pytest.approx(1 / 3)


def test_equal_and_few_invalid_calls_hold() -> None:
    verdict = judge_gate(*two_sides(60, 20, calls_begun=20, invalid_calls=1), BUDGET)
    assert verdict.accepted
    assert verdict.invalid_calls.upper_bound is not None
    assert 0 < verdict.invalid_calls.upper_bound < 0.05


def test_too_few_calls_prove_no_validity() -> None:
    plain, calling = two_sides(60, 20), two_sides(0, 0, 5, 5, calls_begun=1)
    rename = [TaskResult(f"x{r.task_id}", 0, r.outcome, calls_begun=1) for side_ in calling for r in side_]
    verdict = judge_gate(plain[0] + rename[:10], plain[1] + rename[10:], BUDGET)
    assert codes(verdict) == {ReasonCode.INVALID_CALLS_NOT_PROVED}
    assert verdict.more_tasks is not None
    assert verdict.more_tasks > 0


def test_current_model_that_hardly_calls_does_not_hide_a_candidate_whose_calls_are_valid() -> None:
    current, candidate = two_sides(60, 20)
    calling = [replace(result, calls_begun=2) for result in candidate]
    shy = [replace(current[0], calls_begun=2), *current[1:]]
    verdict = judge_gate(shy, calling, BUDGET)
    assert verdict.accepted
    assert verdict.invalid_calls.upper_bound is not None
    assert verdict.invalid_calls.upper_bound < verdict.floors.invalid_margin


def test_current_model_that_hardly_calls_excuses_no_invalid_calls() -> None:
    current, candidate = two_sides(60, 20)
    broken = [replace(result, calls_begun=2, invalid_calls=1) for result in candidate]
    shy = [replace(current[0], calls_begun=2, invalid_calls=2), *current[1:]]
    assert codes(judge_gate(shy, broken, BUDGET)) == {ReasonCode.INVALID_CALLS_WORSE}


def test_one_invalid_call_among_many_is_no_rise_beside_a_current_model_whose_few_calls_were_often_invalid() -> None:
    current, candidate = two_sides(25, 0, 0, 31)
    few = [replace(r, calls_begun=int(n < 7), invalid_calls=int(n < 3)) for n, r in enumerate(current)]
    many = [replace(r, calls_begun=1, invalid_calls=int(n == 0)) for n, r in enumerate(candidate)]
    verdict = judge_gate(few, many, BUDGET)
    assert verdict.invalid_calls.held
    assert verdict.accepted


@pytest.mark.parametrize("share", [0.08, 0.3])
@pytest.mark.parametrize("before", [0.0, 0.1, 0.4])
def test_a_rise_of_the_margin_is_rarely_taken_for_none_however_few_calls_the_current_model_made(
    share: float, before: float
) -> None:
    rng = np.random.default_rng(20)
    current, candidate = two_sides(0, 0, 0, 56)
    floors, held = GateFloors(), []
    for _ in range(1000):
        begun = rng.random(56) < share
        rising = before + floors.invalid_margin
        invalid = begun & (rng.random(56) < before)
        few = [
            replace(r, calls_begun=int(b), invalid_calls=int(i))
            for r, b, i in zip(current, begun, invalid, strict=True)
        ]
        many = [replace(r, calls_begun=2, invalid_calls=int(rng.binomial(2, rising))) for r in candidate]
        held.append(invalid_call_row(pair(few, many), floors).held and bool(begun.any()))
    # Nominally 5 %; Wald's bounds of so few calls reach 7 %.
    assert sum(held) / len(held) < 0.07


def test_levels_and_costs_are_reported() -> None:
    current, candidate = two_sides(60, 20, level="2", output_tokens=40, steps=3, seconds=1.5)
    verdict = judge_gate(current, candidate, BUDGET)
    assert [(row.level, row.tasks) for row in verdict.levels] == [("2", 280)]
    assert verdict.candidate_cost.output_tokens == 40


def test_verdict_survives_the_way_through_json() -> None:
    verdict = judge_gate(*two_sides(45, 30, tools=(ToolUse("sql", 1),), calls_begun=1, level="1"), BUDGET)
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict


def test_explanation_begins_with_the_judgement_and_names_each_reason() -> None:
    lines = explain(judge_gate(*two_sides(45, 30), BUDGET))
    assert lines[0] == "refused"
    assert lines[1].startswith("  because +5.5 points on 275 tasks may be chance")
    assert "more tasks would settle it" in lines[1]
    assert explain(judge_gate(*two_sides(60, 20), BUDGET))[0] == "accepted"
    assert explain(judge_gate([], [], BUDGET))[0] == "refused"


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 60), st.integers(0, 60), st.integers(1, 2), st.booleans())
def test_never_accepted_when_wins_do_not_outnumber_losses(
    wins: int, losses: int, both: int, neither: int, seeds: int, tools: bool
) -> None:
    losses += max(0, wins - losses)
    uses = (ToolUse("sql", 1),) if tools else ()
    sides = [two_sides(wins, losses, both, neither, seed=seed, tools=uses) for seed in range(seeds)]
    current, candidate = [r for a, _ in sides for r in a], [r for _, b in sides for r in b]
    assert not judge_gate(current, candidate, GateBudget(grant_id="g", alpha=0.05)).accepted


def test_comparison_of_two_results_gives_the_paired_difference_and_its_interval() -> None:
    found = compare(*two_sides(60, 20))
    assert found.difference == pytest.approx(40 / 280)
    assert found.ci95.low > 0
    assert (found.rate_a, found.rate_b, found.wins, found.losses) == (120 / 280, 160 / 280, 60, 20)


def test_comparison_without_common_tasks_has_no_difference() -> None:
    found = compare(side("+"), [])
    assert (found.tasks, found.difference, found.ci95, found.missing) == (0, None, (-1.0, 1.0), 1)
