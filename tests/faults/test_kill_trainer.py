"""kill -9 at every stage of a training: what is live does not change, and the same command goes on and finishes."""

import os
import re
import signal
import subprocess

import pytest
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import LEARNS, PipelinePlace, make_place

from koboshi_runtime.store import JobStatus, Store
from koboshi_trainer.gate.ledger import FILE_NAME, Grant, Ledger, Spent

pytestmark = pytest.mark.slow


# What the progress of a training says when each stage begins, when all steps of the fit are done, and amid the gate.
_MOMENTS = ("build:", "fit:", r"optimizer step (\d+) of \1,", "export:", "parity:", r"current: (\d+) of \1 tasks")


def _kill_at(place: PipelinePlace, moment: str) -> None:
    """Start a training in a process group of its own, and kill it as soon as `moment` is in a line of its progress."""
    process = subprocess.Popen(
        place.command("train", *LEARNS), env=place.environment(), stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stderr is not None
    seen = []
    for told in process.stderr:
        seen.append(told)
        if re.search(moment, told):
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait(60) == -signal.SIGKILL, "".join(seen)


def _spending(place: PipelinePlace) -> list[type[Grant | Spent]]:
    return [type(entry) for entry in Ledger(place.home.models / FILE_NAME).entries()]


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelinePlace, str]:
    """A place whose training was killed at every stage, once each, and then finished; and the base's hash."""
    root = tmp_path_factory.mktemp("killed")
    place = make_place(root, write_tiny_model(root / "base.gguf", "llama"))
    base = place.registry.current().manifest.model_hash
    for moment in _MOMENTS:
        _kill_at(place, moment)
        assert place.registry.current().manifest.model_hash == base
    assert _spending(place) == [Grant]
    finished = place.train(*LEARNS)
    assert finished.returncode == 0, finished.stderr
    return place, base


def test_training_killed_at_every_stage_goes_on_and_goes_live(survived: tuple[PipelinePlace, str]) -> None:
    place, base = survived
    current, previous = place.registry.current(), place.registry.previous()
    place.registry.verify(current)
    assert current.manifest.parents.base == base
    assert previous is not None
    assert previous.manifest.model_hash == base


def test_all_attempts_were_one_job_on_one_dataset(survived: tuple[PipelinePlace, str]) -> None:
    home = survived[0].home
    assert (len(list(home.runs.iterdir())), len(list(home.datasets.iterdir()))) == (1, 1)


def test_killed_gate_has_spent_its_alpha_and_goes_on_with_it(survived: tuple[PipelinePlace, str]) -> None:
    assert _spending(survived[0]) == [Grant, Spent]


def test_jobs_of_killed_trainings_are_closed_by_the_next(survived: tuple[PipelinePlace, str]) -> None:
    store = Store.read_only(survived[0].home.traces)
    done, *killed = [job.status for job in store.jobs("train")]
    store.close()
    assert done is JobStatus.DONE
    assert set(killed) == {JobStatus.INTERRUPTED}
