"""Nights that do not come to a training: nothing to learn from, no room, somebody at the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.store_samples import header, label, record
from tests.trainer.conftest import write_tiny_model

from koboshi_runtime.config_values import NightlySettings, Settings, WorkerSettings
from koboshi_runtime.home import open_home
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import JobStatus, Store
from koboshi_trainer.morning.files import read_last
from koboshi_trainer.morning.report import Kind
from koboshi_trainer.night.idle import PutOffError
from koboshi_trainer.night.night import NightPlan, run_night
from koboshi_trainer.night.place import NightBusyError, alone
from koboshi_trainer.night.preflight import NoRoomError, expected_s, refuse_too_long
from koboshi_trainer.night.readiness import JOB
from koboshi_trainer.stages import FitPlan
from koboshi_trainer.workshop import Workshop

PLAN = NightPlan(FitPlan(), NightlySettings(least_runs=3, least_new=2))


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A home with a tiny model, and a project of nothing."""
    home = open_home(path=tmp_path / "home")
    add_model(
        home, str(write_tiny_model(tmp_path / "base.gguf", "llama")), AddSettings(name="tiny", template="mistral")
    )
    (tmp_path / "koboshi.toml").touch()
    worker = WorkerSettings(threads=1, batch_threads=1, context_tokens=256, parallel=1)
    opened = Workshop.open(home, tmp_path, Settings(worker=worker, nightly=PLAN.settings))
    yield opened
    opened.close()


def _label(store: Store, count: int) -> None:
    for number in range(count):
        record(store, f"r{number}", header(f"task {number}"), outcomes=(label(OutcomeLabel.SUCCESS),))


def test_a_night_with_too_few_labels_records_why_and_pauses_for_nobody(workshop: Workshop) -> None:
    paused: list[str] = []
    _label(workshop.store, 1)
    morning = run_night(workshop, NightPlan(PLAN.fit, PLAN.settings, pause=paused.append))
    assert (morning.kind, morning.headline) == (
        Kind.NOTHING,
        "Nothing to do: 1 labelled, 3 needed: run and label 2 more",
    )
    (job,) = workshop.store.jobs(JOB)
    assert (job.status, job.result and job.result["reasons"]) == (JobStatus.DONE, list(morning.reasons))
    last = read_last(workshop.home)
    assert last is not None
    assert last[1] == morning
    assert last[0].with_suffix(".html").exists()
    assert paused == []


def test_a_night_that_has_no_room_fails_before_it_begins_and_names_both_sides(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _label(workshop.store, 5)
    monkeypatch.setattr("koboshi_runtime.estimate.available_bytes", lambda: 100_000_000)
    morning = run_night(workshop, PLAN)
    assert morning.kind is Kind.FAILED
    assert "memory for a night: 0.36 GB needed, 0.1 GB there" in morning.reasons[0]
    assert workshop.store.jobs(JOB)[0].status is JobStatus.FAILED
    assert not any((workshop.home.runs / "nights").iterdir())


def test_a_night_that_is_put_off_goes_on_as_the_same_night(workshop: Workshop) -> None:
    _label(workshop.store, 5)

    def busy(stage: str) -> None:
        raise PutOffError(f"somebody is here at {stage}")

    for _ in range(2):
        with pytest.raises(PutOffError, match="somebody is here at build"):
            run_night(workshop, NightPlan(PLAN.fit, PLAN.settings, pause=busy))
    jobs = workshop.store.jobs(JOB)
    assert [job.status for job in jobs] == [JobStatus.INTERRUPTED] * 2
    assert len({job.manifest["night_id"] for job in jobs}) == 1
    assert jobs[0].result is not None
    assert jobs[0].result["error"] == "somebody is here at build"


def test_of_two_nights_the_second_leaves_at_once(workshop: Workshop) -> None:
    with alone(workshop.home), pytest.raises(NightBusyError, match="another night"):
        run_night(workshop, PLAN)
    assert workshop.store.jobs(JOB) == []


def test_how_long_a_night_takes_is_known_from_the_last_one_that_trained(workshop: Workshop) -> None:
    store = workshop.store
    assert expected_s(store, 1000) is None
    done = run_night(workshop, PLAN).model_copy(update={"kind": Kind.REFUSED})
    learnt: dict[str, object] = {
        "rows": {"success": 80, "failure": 20},
        "method": "nat",
        "failure_classes": {},
        "tools": {},
    }
    learnt |= {"demonstrations": 0, "left_out": {}, "optimizer_steps": 1, "tokens": 1, "losses": ()}
    learnt |= {"held_out_before": {}, "held_out_after": {}}
    cost = done.cost.model_copy(update={"seconds": {"fit": 7200.0, "gate": 3600.0}})
    result = done.model_dump(mode="json") | {"learnt": learnt, "cost": cost.model_dump(mode="json")}
    store.finish_job(store.start_job(JOB, {"night_id": "n"}), JobStatus.REFUSED, result)
    assert run_night(workshop, PLAN).refused_before == 1
    assert expected_s(store, 200) == 2 * 7200 + 3600
    refuse_too_long(workshop, 200, NightlySettings(longest_h=6))
    with pytest.raises(NoRoomError, match=r"about 5.0 h by the last night here, and \[nightly\] longest_h is 4"):
        refuse_too_long(workshop, 200, NightlySettings(longest_h=4))


def test_how_long_a_first_night_takes_is_estimated(workshop: Workshop) -> None:
    refuse_too_long(workshop, 100, NightlySettings())
    with pytest.raises(NoRoomError, match="by the model's size and this machine's speed"):
        refuse_too_long(workshop, 10**9, NightlySettings())
