from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_trainer.batches import MicroBatch, OptimizerBatch, micro_batches, plan_epoch
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.schedule import learning_rate, plan_fit


def row(number: int, length: int = 4, prefix: int = 0, group: str = "") -> TokenRow:
    learn = (False,) + (True,) * (length - 1)
    return TokenRow((prefix,) * 3, (number,) * length, learn, run_id=f"r{number}", group=group)


ROWS = [row(n, length=2 + n % 7, prefix=n % 2, group=f"t{n // 3}") for n in range(30)]


def plan(
    rows: list[TokenRow] = ROWS, *, seed: int = 1, epoch: int = 0, tasks_together: bool = False
) -> list[OptimizerBatch]:
    return plan_epoch(rows, batch_rows=8, max_tokens=20, seed=seed, epoch=epoch, tasks_together=tasks_together)


def ids(batches: list[OptimizerBatch]) -> list[list[str]]:
    return [sorted(one.run_id for micro in batch for one in micro.rows) for batch in batches]


@given(st.lists(st.tuples(st.integers(2, 40), st.integers(0, 2)), min_size=1, max_size=40), st.integers(1, 9))
def test_every_row_is_in_exactly_one_batch_of_an_epoch(shapes: list[tuple[int, int]], batch_rows: int) -> None:
    rows = [row(n, length, prefix) for n, (length, prefix) in enumerate(shapes)]
    batches = plan_epoch(rows, batch_rows=batch_rows, max_tokens=25, seed=0)
    assert Counter(name for batch in ids(batches) for name in batch) == Counter(one.run_id for one in rows)


def test_micro_batches_keep_to_the_budget_and_to_one_prefix() -> None:
    for micro in (micro for batch in plan() for micro in batch):
        assert micro.tokens <= 20
        assert {one.prefix_ids for one in micro.rows} == {micro.prefix_ids}


def test_row_longer_than_the_budget_stands_alone() -> None:
    long, short = row(1, length=50), row(2)
    assert micro_batches([short, long], max_tokens=20) == [
        MicroBatch(prefix_ids=(0, 0, 0), rows=(long,)),
        MicroBatch(prefix_ids=(0, 0, 0), rows=(short,)),
    ]


def test_a_short_row_fills_the_room_that_a_part_has_left() -> None:
    rows = [row(1, length=12), row(2, length=11), row(3, length=9), row(4, length=5), row(5, length=4)]
    parts = micro_batches(rows, max_tokens=20)
    assert [[len(one.ids) for one in micro.rows] for micro in parts] == [[12, 5], [11, 4], [9]]


def test_plan_depends_on_seed_and_epoch_alone() -> None:
    assert ids(plan()) == ids(plan())
    assert ids(plan()) != ids(plan(seed=2))
    assert ids(plan()) != ids(plan(epoch=1))


def test_tasks_together_puts_the_rows_of_a_task_side_by_side() -> None:
    split = [{int(name[1:]) // 3 for name in batch} for batch in ids(plan(tasks_together=True))]
    shared = sum(len(left & right) for left, right in zip(split, split[1:], strict=False))
    assert shared <= len(split) - 1


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (FitSettings(batch_rows=8), 4),
        (FitSettings(batch_rows=8, epochs=2.5), 10),
        (FitSettings(batch_rows=8, optimizer_steps=11), 11),
        (FitSettings(batch_rows=8, least_steps=6), 6),
        (FitSettings(batch_rows=8, least_steps=20), 8),
        (FitSettings(batch_rows=8, epochs=2.5, least_steps=6), 10),
        (FitSettings(batch_rows=8, epochs=0.1, least_steps=20), 1),
        (FitSettings(batch_rows=8, optimizer_steps=2, least_steps=20), 2),
    ],
)
def test_fit_goes_on_for_as_many_steps_as_told(settings: FitSettings, steps: int) -> None:
    assert len(plan_fit(ROWS, settings)) == steps


def test_token_budget_counts_every_row_with_its_prefix() -> None:
    batches = plan_fit(ROWS, FitSettings(batch_rows=8, max_tokens=500))
    tokens = [sum(3 + len(one.ids) for micro in batch for one in micro.rows) for batch in batches]
    assert sum(tokens) <= 500 < sum(tokens) + max(tokens)


def test_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    settings = FitSettings(learning_rate=1.0, warmup=0.1, final_learning_rate=0.2)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:2] == [0.1, 0.2]
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.6)
    assert 0.2 <= rates[-1] < 0.201
