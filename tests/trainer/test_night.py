"""A night on a tiny model: what goes live, what is recorded, what a second night says, and what two at once do."""

import json
from pathlib import Path

import pytest
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import PipelinePlace, make_place, with_nights

from koboshi_runtime.files import locked
from koboshi_runtime.models.manifest import ModelState
from koboshi_runtime.store import JobStatus, Store
from koboshi_trainer.morning.report import Kind, Morning
from koboshi_trainer.night.readiness import JOB

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slept(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelinePlace, Morning]:
    """A place after its first night; only to be read, or to be slept in again."""
    root = tmp_path_factory.mktemp("slept")
    place = with_nights(make_place(root, write_tiny_model(root / "base.gguf", "llama")))
    done = place.koboshi("nightly", "run", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    del told["headline"]
    return place, Morning.model_validate(told)


def test_a_better_model_goes_live_and_the_headline_says_how_to_undo_it(slept: tuple[PipelinePlace, Morning]) -> None:
    place, morning = slept
    assert morning.kind is Kind.PROMOTED
    assert morning.headline == "Got up wiser: 0 → 100 % on 60 unseen tasks; undo: `koboshi models rollback`"
    assert place.registry.current().manifest.name == morning.candidate


def test_the_report_says_what_was_learnt_and_what_it_cost(slept: tuple[PipelinePlace, Morning]) -> None:
    morning = slept[1]
    assert morning.learnt is not None
    assert morning.learnt.rows == {"success": 24}
    assert list(morning.cost.seconds) == ["select", "build", "fit", "export", "parity", "gate"]
    assert morning.disk["models"] > 0
    assert morning.verdict is not None
    assert morning.verdict.wins == 60


def test_the_report_is_kept_and_shown_again(slept: tuple[PipelinePlace, Morning]) -> None:
    place, morning = slept
    shown = place.koboshi("nightly", "report")
    assert shown.stdout.startswith(morning.headline)
    (page,) = place.home.reports.glob("night-*.md")
    assert page.read_text(encoding="utf-8").startswith(f"# {morning.headline}")


def test_the_night_is_a_job_with_its_report(slept: tuple[PipelinePlace, Morning]) -> None:
    store = Store.read_only(slept[0].home.traces)
    job = store.jobs(JOB)[-1]
    assert job.status is JobStatus.DONE
    assert Morning.model_validate(job.result) == slept[1]
    assert not any((slept[0].home.runs / "nights").iterdir())


def test_a_night_without_new_labels_says_so_and_changes_nothing(slept: tuple[PipelinePlace, Morning]) -> None:
    place, first = slept
    pointer = (place.home.models / "current").read_bytes()
    done = place.koboshi("nightly", "run")
    assert done.returncode == 0
    reason = "no run was labelled since the last night, 20 needed: run and label 20 more"
    assert done.stdout.startswith(f"Nothing to do: {reason}")
    status = json.loads(place.koboshi("nightly", "status", "--json").stdout)
    assert status["last"]["headline"] == f"Nothing to do: {reason}"
    assert (place.home.models / "current").read_bytes() == pointer
    store = Store.read_only(place.home.traces)
    assert store.jobs(JOB)[0].result is not None
    assert store.jobs(JOB)[0].status is JobStatus.DONE


def test_a_second_night_at_once_leaves_with_a_message(slept: tuple[PipelinePlace, Morning]) -> None:
    place = slept[0]
    with locked(place.home.run / "nightly.lock"):
        done = place.koboshi("nightly", "run", "--json")
    assert done.returncode == 1
    assert "another night" in json.loads(done.stderr.splitlines()[-1])["error"]


def test_a_refused_candidate_is_retired_and_the_night_leaves_with_3(tmp_path: Path) -> None:
    place = with_nights(make_place(tmp_path, write_tiny_model(tmp_path / "base.gguf", "llama")), learns=False)
    done = place.koboshi("nightly", "run", "--json")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert (told["kind"], told["verdict"]) == ("refused", None)
    assert told["headline"].startswith(f"Stayed as it was; refused {told['candidate']}: the file is not")
    assert place.registry.resolve(told["candidate"]).state is ModelState.RETIRED
    assert place.koboshi("nightly", "run").stdout.startswith("Nothing to do: no run was labelled")
