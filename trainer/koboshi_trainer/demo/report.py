"""The demo's report as a value: every number that it shows, reckoned from what is stored and nothing else.

Rates are shares with Wilson's 95 % intervals over tasks, differences are paired by task with bootstrap intervals. What
the gates and the parity said is taken over word for word, a refusal like an acceptance.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from koboshi_runtime.models.registry import short
from koboshi_runtime.records import OutcomeLabel, Trajectory
from koboshi_runtime.statistics import Interval, TaskResult, aggregate, measure
from koboshi_runtime.store import Store
from koboshi_tools import Frozen

from ..fit_values import FitReport
from ..gate.reasons import explain
from ..pairs import Comparison, compare
from ..parity import FileParity
from ..pipeline import TrainResult
from .place import DemoPlace
from .report_next import Next, next_steps
from .report_runs import SideBySide, side_by_side
from .walk import TEST_SETS, DemoResult

UNTRAINED, SEEDED, AFTER = "untrained", "seeded", "after"


class Score(Frozen):
    """One model on one test set; `by_level` and `by_tool` are success rates over the tasks of each."""

    model: str
    test_set: str
    tasks: int
    success_rate: float
    ci95: Interval
    invalid_call_rate: float | None
    mean_steps: float | None
    by_level: dict[str, float]
    by_tool: dict[str, float]


class Difference(Frozen):
    """How much better the second model is than the first on the same tasks of a test set."""

    test_set: str
    first: str
    second: str
    comparison: Comparison


class Learning(Frozen):
    """What one training learnt from, and what became of its model."""

    model: str
    model_hash: str
    method: str
    promoted: bool
    fit: FitReport
    parity_passed: bool
    parity_reasons: tuple[str, ...]
    parity_files: tuple[FileParity, ...]
    gate: tuple[str, ...]


class ConditionScore(Frozen):
    """One model on the same tasks, asked for a success and asked for a failure."""

    model: str
    tasks: int
    success_rate: float
    failure_rate: float
    comparison: Comparison


class Report(Frozen):
    """The whole report; `untrained_as` says which of the two prompts the untrained model did best with."""

    pack: str
    seed: int
    untrained_as: str
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    learnings: tuple[Learning, ...]
    rollouts: dict[str, int]
    conditions: tuple[ConditionScore, ...]
    runs: tuple[SideBySide, ...]
    seconds: dict[str, float]
    next: Next


class _Sides(NamedTuple):
    """The trajectories of each model, by test set."""

    by_model: Mapping[str, Mapping[str, Sequence[Trajectory]]]
    untrained_as: str


def make_report(place: DemoPlace, result: DemoResult) -> Report:
    """Reckon the report of a finished demo from its store."""
    # Opened to write: the home of an older koboshi's demo is migrated.
    store = Store.open(place.home.traces)
    try:
        sides = _sides(store, result)
        live = place.registry.current().manifest
        return Report(
            pack=place.pack.name,
            seed=place.seed,
            untrained_as=sides.untrained_as,
            scores=_scores(sides),
            differences=_differences(sides),
            learnings=(
                _learning(SEEDED, "success", result.seed_training),
                _learning(AFTER, "nat", result.loop_training),
            ),
            rollouts=_outcomes(store, result.rollouts),
            conditions=_conditions(store, result, sides),
            runs=side_by_side({model: sides.by_model[model]["test"] for model in (UNTRAINED, SEEDED, AFTER)}),
            seconds=result.seconds,
            next=next_steps(place, f"{live.name} {short(live.model_hash)}"),
        )
    finally:
        store.close()


def _sides(store: Store, result: DemoResult) -> _Sides:
    kept = {"zero-shot": result.untrained, "few-shot": result.few_shot, SEEDED: result.seeded, AFTER: result.after}
    found = {
        name: {test_set: [store.trajectory(run_id) for run_id in runs.run_ids[test_set]] for test_set in TEST_SETS}
        for name, runs in kept.items()
    }
    # The better of the two prompts stands for the untrained model: whatever helps it counts against what was learnt.
    best = max(("zero-shot", "few-shot"), key=lambda name: _successes(found[name]["test"]))
    return _Sides({**found, UNTRAINED: found[best]}, best)


def _successes(runs: Sequence[Trajectory]) -> int:
    return sum(run.outcome is OutcomeLabel.SUCCESS for run in runs)


def _scores(sides: _Sides) -> tuple[Score, ...]:
    models = ("zero-shot", "few-shot", SEEDED, AFTER)
    return tuple(
        _score(model, test_set, [measure(run) for run in runs])
        for test_set in TEST_SETS
        for model in models
        if (runs := sides.by_model[model][test_set])
    )


def _score(model: str, test_set: str, results: Sequence[TaskResult]) -> Score:
    whole = aggregate(results)
    levels = sorted({result.level for result in results if result.level is not None})
    tools = sorted({use.name for result in results for use in result.tools})
    return Score(
        model=model,
        test_set=test_set,
        tasks=whole.tasks,
        success_rate=whole.success_rate or 0.0,
        ci95=whole.ci95 or Interval(0.0, 1.0),
        invalid_call_rate=whole.invalid_call_rate,
        mean_steps=whole.mean_steps,
        by_level={level: _rate([r for r in results if r.level == level]) for level in levels},
        by_tool={tool: _rate([r for r in results if any(use.name == tool for use in r.tools)]) for tool in tools},
    )


def _rate(results: Sequence[TaskResult]) -> float:
    return sum(result.outcome is OutcomeLabel.SUCCESS for result in results) / len(results) if results else 0.0


def _differences(sides: _Sides) -> tuple[Difference, ...]:
    pairs = ((UNTRAINED, SEEDED), (UNTRAINED, AFTER), (SEEDED, AFTER))
    return tuple(
        Difference(test_set=test_set, first=a, second=b, comparison=compare(_measured(sides, a, test_set), results))
        for test_set in TEST_SETS
        for a, b in pairs
        if (results := _measured(sides, b, test_set))
    )


def _measured(sides: _Sides, model: str, test_set: str) -> list[TaskResult]:
    return [measure(run) for run in sides.by_model[model][test_set]]


def _learning(model: str, method: str, result: TrainResult) -> Learning:
    reasons = "parity refused the file; the gate was not asked"
    return Learning(
        model=model,
        model_hash=result.model_hash,
        method=method,
        promoted=result.promoted,
        fit=result.fit,
        parity_passed=result.parity.passed,
        parity_reasons=result.parity.reasons,
        parity_files=result.parity.files,
        gate=tuple(explain(result.verdict)) if result.verdict else (reasons,),
    )


def _outcomes(store: Store, run_ids: Sequence[str]) -> dict[str, int]:
    labels = [store.trajectory(run_id).outcome for run_id in run_ids]
    return {label.value: labels.count(label) for label in OutcomeLabel}


def _conditions(store: Store, result: DemoResult, sides: _Sides) -> tuple[ConditionScore, ...]:
    found = []
    for model in (SEEDED, AFTER):
        wrong = [measure(store.trajectory(run_id)) for run_id in result.conditions.run_ids[model]]
        asked = {task.task_id for task in wrong}
        right = [task for task in _measured(sides, model, "test") if task.task_id in asked]
        found.append(
            ConditionScore(
                model=model,
                tasks=len(wrong),
                success_rate=_rate(right),
                failure_rate=_rate(wrong),
                comparison=compare(wrong, right),
            )
        )
    return tuple(found)
