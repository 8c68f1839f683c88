"""What a night lacks, in words; and that its labels are counted as a dataset would take them."""

from pathlib import Path

import pytest
from tests.runtime.store_samples import DONE, header, label, record

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.records import EndReason, OutcomeLabel, OutcomeSource, Purpose, Split
from koboshi_runtime.store import JobStatus, Store
from koboshi_runtime.store.labels import count_labels
from koboshi_trainer.night.readiness import JOB, Readiness, last_seen, readiness

SUCCESS, FAILURE = label(OutcomeLabel.SUCCESS), label(OutcomeLabel.FAILURE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def _ready(**counts: int) -> Readiness:
    enough = {"labelled": 80, "needed": 60, "newer": 30, "needed_new": 20, "unlabelled": 0}
    return Readiness(**enough | counts)


def test_it_says_how_many_labels_are_missing() -> None:
    lacking = _ready(labelled=37, unlabelled=100)
    assert (lacking.text, lacking.missing) == ("37 labelled, 60 needed: label 23", 23)


def test_where_too_few_runs_wait_for_a_label_more_must_be_run() -> None:
    assert _ready(labelled=37, unlabelled=3).text == "37 labelled, 60 needed: label 3, and run 20 more"
    assert _ready(labelled=37).text == "37 labelled, 60 needed: run and label 23 more"


def test_labels_that_the_last_night_knew_do_not_make_another() -> None:
    assert _ready(newer=0, unlabelled=9).text.startswith("no run was labelled since the last night, 20 needed")
    assert _ready(newer=12, unlabelled=50).text == "12 labelled since the last night, 20 needed: label 8"
    assert _ready().missing == 0


def test_only_runs_that_may_be_learnt_from_are_counted(store: Store) -> None:
    record(store, "good", header("a"), outcomes=(SUCCESS,))
    record(store, "bad", header("b", purpose=Purpose.ROLLOUT), outcomes=(FAILURE,))
    record(store, "unjudged", header("c"))
    record(store, "weak", header("d"), outcomes=(label(OutcomeLabel.FAILURE, OutcomeSource.WEAK),))
    record(store, "gated", header("e", purpose=Purpose.GATE), outcomes=(SUCCESS,))
    record(store, "asked in a gate", header("E"), outcomes=(SUCCESS,))
    record(store, "dev", header("f", split=Split.DEV), outcomes=(SUCCESS,))
    lost = DONE.model_copy(update={"reason": EndReason.WORKSPACE_LOST})
    record(store, "lost", header("g"), outcomes=(FAILURE,), end=lost)
    found = count_labels(store)
    assert (found.labelled, found.successes) == (2, 1)


def test_a_night_counts_what_was_labelled_after_the_one_before_it(store: Store) -> None:
    for number in range(3):
        record(store, f"old{number}", header(f"old {number}"), outcomes=(SUCCESS,))
    record(store, "waiting", header("waiting"))
    job = store.start_job(JOB, {"night_id": "n1"})
    store.finish_job(job, JobStatus.REFUSED, {"seen": count_labels(store).last})
    store.add_outcome("waiting", label(OutcomeLabel.FAILURE, OutcomeSource.PERSON))
    found = readiness(store, NightlySettings(least_runs=4, least_new=2))
    assert (found.labelled, found.newer, found.missing) == (4, 1, 1)


def test_a_night_that_did_not_train_does_not_hide_labels_from_the_next(store: Store) -> None:
    for status, result in ((JobStatus.DONE, {"seen": 7}), (JobStatus.FAILED, {"seen": 9}), (JobStatus.DONE, {})):
        store.finish_job(store.start_job(JOB, {"night_id": "n"}), status, result)
    assert last_seen(store) == 7
