"""The queue of labels: which runs come first, and what is said of each."""

from pathlib import Path

import pytest
from tests.runtime.store_samples import DONE, OK, header, label, record

from koboshi_runtime.records import OutcomeLabel, OutcomeSource, Purpose
from koboshi_runtime.store import Store

SUCCESS, FAILURE = label(OutcomeLabel.SUCCESS), label(OutcomeLabel.FAILURE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def _queue(store: Store) -> dict[str, str]:
    """Return the first reason of each run, in the order of the queue."""
    return {row.run_id: row.reasons[0] for row in store.label_queue()}


def test_a_run_whose_prompt_went_both_ways_comes_before_one_that_is_merely_unsure(store: Store) -> None:
    for run_id, outcome in (("r1", SUCCESS), ("r2", FAILURE)):
        record(store, run_id, header("Refund 7", purpose=Purpose.ROLLOUT), outcomes=(outcome,))
    record(store, "both", header("refund  7"), logprob=0.0)
    record(store, "unsure", header("Other"), logprob=-1.0)
    assert _queue(store) == {
        "both": "1 of 2 judged runs of it succeeded",
        "unsure": "the model was 37% sure of a token",
    }


def test_answers_that_differ_count_where_nobody_judged(store: Store) -> None:
    for run_id, answer in (("a", "1"), ("b", "2")):
        record(store, run_id, header("Again"), logprob=0.0, end=DONE.model_copy(update={"answer": answer}))
    assert _queue(store)["b"] == "2 different answers in 2 runs of it"


def test_a_tool_without_labels_asks_for_one_until_it_has_twenty(store: Store) -> None:
    record(store, "w", header("Try"), logprob=0.0, calls=(("sql", OK),))
    assert _queue(store) == {"w": "no labelled runs with sql"}
    for number in range(20):
        record(store, f"l{number}", header(f"Labelled {number}"), outcomes=(SUCCESS,), calls=(("sql", OK),))
    assert _queue(store) == {"w": "new"}


def test_a_weak_signal_is_a_reason_and_no_label(store: Store) -> None:
    weak = label(OutcomeLabel.FAILURE, OutcomeSource.WEAK).model_copy(update={"rationale": "looped"})
    record(store, "w", header("Loop"), logprob=0.0, outcomes=(weak,))
    assert _queue(store) == {"w": "weak signal: looped"}
    assert store.count_unlabelled() == 1


def test_twenty_runs_of_one_prompt_do_not_hide_another(store: Store) -> None:
    for number in range(5):
        record(store, f"s{number}", header("Same"), logprob=-3.0)
    record(store, "other", header("Other"), logprob=-0.1)
    assert [row.run_id for row in store.label_queue(2)] == ["s4", "other"]
    assert store.count_unlabelled() == 6
