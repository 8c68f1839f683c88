"""Rates that count tasks, leave out what could not be replayed, and never take unknown for success."""

from typing import Any

import pytest
from tests.runtime.store_samples import DONE, OK, header, intent, label, reply, turn

from koboshi_runtime.records import (
    CallRecord,
    EndReason,
    OutcomeLabel,
    RunEnd,
    RunStatus,
    Trajectory,
    TurnKind,
    TurnRecord,
)
from koboshi_runtime.statistics import TaskResult, ToolUse, aggregate, measure, wilson_interval
from koboshi_tools import ToolResult, Transport


def result(
    task: int, label: str, *, seed: int = 0, calls_begun: int = 0, invalid_calls: int = 0, replayable: bool = True
) -> TaskResult:
    return TaskResult(
        task_id=str(task),
        seed=seed,
        outcome=OutcomeLabel(label),
        calls_begun=calls_begun,
        invalid_calls=invalid_calls,
        replayable=replayable,
    )


def test_wilson_interval_equals_the_published_example() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_wilson_interval_without_trials_is_everything() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_unknown_is_not_a_success() -> None:
    found = aggregate([result(1, "success"), result(2, "unknown")])
    assert (found.success_rate, found.unknown) == (0.5, 1)


def test_what_could_not_be_replayed_is_counted_apart() -> None:
    found = aggregate([result(1, "success"), result(2, "failure", replayable=False)])
    assert (found.success_rate, found.not_replayable, found.tasks) == (1.0, 1, 2)


def test_more_seeds_of_a_task_do_not_narrow_the_interval() -> None:
    once = aggregate([result(task, "success" if task % 2 else "failure") for task in range(20)])
    thrice = aggregate(
        [result(task, "success" if task % 2 else "failure", seed=seed) for task in range(20) for seed in range(3)]
    )
    assert thrice.ci95 == once.ci95


def test_rates_without_anything_to_count_are_none() -> None:
    found = aggregate([])
    assert (found.success_rate, found.ci95, found.invalid_call_rate, found.mean_steps) == (None, None, None, None)


def test_invalid_calls_are_over_calls_begun() -> None:
    found = aggregate([result(1, "success", calls_begun=3, invalid_calls=1), result(2, "failure", calls_begun=1)])
    assert found.invalid_call_rate == 0.25


def trajectory(
    turns: tuple[TurnRecord, ...] = (), calls: tuple[CallRecord, ...] = (), end: RunEnd = DONE, **fields: Any
) -> Trajectory:
    head = header(task_id="w-1").model_copy(update=fields)
    return Trajectory(
        run_id="r1",
        created_at="2026-01-01T00:00:00.000Z",
        header=head,
        turns=turns,
        calls=calls,
        outcomes=(label(OutcomeLabel.SUCCESS),),
        end=end,
    )


def test_run_is_measured_by_its_turns_calls_and_outcome() -> None:
    failed = ToolResult(transport=Transport.ERROR, output="no such table", seconds=0.5)
    calls = (CallRecord(intent=intent("a"), result=OK), CallRecord(intent=intent("b", 1), result=failed))
    found = measure(trajectory((turn(0), turn(1)), calls, task={"meta": {"level": 2}}))
    assert found == TaskResult(
        task_id="w-1",
        seed=7,
        outcome=OutcomeLabel.SUCCESS,
        tools=(ToolUse("calculator", calls=2, failures=1),),
        calls_begun=2,
        steps=2,
        output_tokens=6,
        seconds=0.75,
        level="2",
    )


def test_cut_call_counts_as_begun_and_invalid_and_a_long_answer_does_not() -> None:
    cut = turn(0, written=reply('<tool_call>\n{"name": "calcul'), kind=TurnKind.INVALID)
    long = turn(1, written=reply("and so on and so on"), kind=TurnKind.INVALID)
    found = measure(trajectory((cut, long)))
    assert (found.calls_begun, found.invalid_calls, found.steps) == (1, 1, 2)


def test_run_that_could_not_be_replayed_says_so() -> None:
    end = RunEnd(status=RunStatus.FAILED, reason=EndReason.NOT_REPLAYABLE, answer=None)
    assert not measure(trajectory(end=end)).replayable
