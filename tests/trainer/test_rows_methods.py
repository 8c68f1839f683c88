from collections import Counter

import pytest

from koboshi_runtime.records import OutcomeLabel, Purpose
from koboshi_trainer.methods import Assignment, Conditions, Method, Weights, assign
from koboshi_trainer.rows import Example, Span

CONDITIONS = ("", "success", "failure", "tool_error")


def example(number: int, *, failure: str | None = None, demonstration: bool = False) -> Example:
    return Example(
        run_id=f"r{number}",
        task_hash=f"t{number // 2}",
        project="shop",
        purpose=Purpose.ROLLOUT,
        label=OutcomeLabel.FAILURE if failure else OutcomeLabel.SUCCESS,
        failure_class=failure,
        demonstration=demonstration,
        created_at="2026-01-01T00:00:00.000+00:00",
        model_hash="m",
        prefix_ids=(1,),
        users={name: (2, 100 + i) for i, name in enumerate(CONDITIONS)},
        spans=(Span(ids=(number, 3), learn=True),),
    )


POOL = [
    *(example(n) for n in range(10)),
    *(example(n, failure="wrong_answer") for n in range(10, 18)),
    *(example(n, failure="tool_error") for n in range(18, 20)),
    *(example(n, demonstration=True) for n in range(20, 24)),
]


def conditions(method: Method, assignment: Assignment | None = None) -> Counter[str | None]:
    return Counter(row.condition for row in assign(POOL, method, assignment))


def test_nat_labels_each_kind_in_its_user_turn() -> None:
    rows = assign(POOL, Method.NAT)
    assert {(row.label, row.condition) for row in rows} == {
        ("success", "success"),
        ("wrong_answer", "failure"),
        ("tool_error", "failure"),
    }
    assert {row.ids[1] for row in rows if row.condition == "failure"} == {102}


def test_nut_shows_both_kinds_as_successes() -> None:
    assert conditions(Method.NUT) == {"success": 24}


def test_success_leaves_failures_out() -> None:
    assert {row.label for row in assign(POOL, Method.SUCCESS)} == {"success"}
    assert conditions(Method.SUCCESS) == {"success": 14}


def test_shuffled_keeps_the_mix_and_spares_demonstrations() -> None:
    rows = assign(POOL, Method.SHUFFLED)
    assert Counter(row.condition for row in rows) == conditions(Method.NAT)
    assert {row.condition for row in rows[20:]} == {"success"}
    assert any(row.condition == "success" for row in rows if row.label != "success")


def test_shuffled_depends_on_the_seed_alone() -> None:
    given = [[row.condition for row in assign(POOL, Method.SHUFFLED, Assignment(seed=seed))] for seed in (1, 1, 2)]
    assert given[0] == given[1] != given[2]


@pytest.mark.parametrize(("fewest", "expected"), [(2, 2), (3, 0)])
def test_failure_class_has_its_own_condition_only_with_enough_examples(fewest: int, expected: int) -> None:
    classes = Conditions(classes=("tool_error",), fewest=fewest)
    assert conditions(Method.NAT, Assignment(conditions=classes))["tool_error"] == expected


def test_without_conditions_the_user_turn_has_none() -> None:
    rows = assign(POOL, Method.NAT, Assignment(conditions=Conditions(used=False)))
    assert {row.condition for row in rows} == {None}
    assert {row.ids[1] for row in rows} == {100}


def test_own_runs_fade_with_their_age_and_demonstrations_do_not() -> None:
    def made(number: int, day: int, **kind: bool) -> Example:
        return example(number, **kind).model_copy(update={"created_at": f"2026-01-{day:02}T00:00:00.000+00:00"})  # type: ignore[arg-type]

    some = [made(0, 15), made(1, 8), made(2, 1), made(3, 1, demonstration=True)]
    fading = Assignment(weights=Weights(half_life_days=7), twins=True)
    rows = assign(some, Method.NAT, fading)
    assert [row.weight for row in rows] == pytest.approx([1.0, 0.5, 0.25, 1.0])
    assert [row.twin.weight for row in rows if row.twin] == pytest.approx([1.0, 0.5, 0.25])
    assert [row.weight for row in assign(some, Method.NAT)] == [1.0] * 4
    very_old = assign([made(0, 15), made(1, 1)], Method.NAT, Assignment(weights=Weights(half_life_days=0.01)))
    assert 0 < very_old[1].weight <= 1e-6


def test_weights_are_by_kind_and_none_leaves_the_kind_out() -> None:
    rows = assign(POOL, Method.NAT, Assignment(weights=Weights(failure=0.3, demonstration=0.0)))
    assert Counter((row.label == "success", row.weight) for row in rows) == {(True, 1.0): 10, (False, 0.3): 10}
