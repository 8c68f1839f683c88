"""kill -9 at every stage of a night: the same command goes on and ends as an unbroken night does; two at once: one."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import PipelinePlace, make_place, sevens, with_nights

from koboshi_runtime.records import Purpose
from koboshi_runtime.store import JobStatus, RunFilter, Store
from koboshi_runtime.templates_init import write_tasks
from koboshi_trainer.gate.ledger import FILE_NAME, Grant, Ledger, Spent
from koboshi_trainer.night.readiness import JOB

pytestmark = pytest.mark.slow

_STAGES = (
    "select:",
    "rollouts:",
    "build:",
    "fit:",
    "optimizer step",
    "export:",
    "parity:",
    "gate:",
    "current: 60 of 60",
    "candidate: 60 of 60",
    "report:",
)
_TRIED, _SAMPLES, _RETRIES = 6, 2, 2


def _start(place: PipelinePlace) -> subprocess.Popen[str]:
    command, environment = place.command("nightly", "run", "--json"), place.environment()
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )


def _kill_at(place: PipelinePlace, line: str) -> None:
    process = _start(place)
    assert process.stderr is not None
    seen = []
    for told in process.stderr:
        seen.append(told)
        if line in told:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "".join(seen)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> PipelinePlace:
    """A place before its first night; only to be copied."""
    root = tmp_path_factory.mktemp("begun")
    place = with_nights(make_place(root, write_tiny_model(root / "base.gguf", "llama")))
    write_tasks(place.project / "tasks" / "train.jsonl", sevens("try", _TRIED))
    file = place.project / "koboshi.toml"
    text = file.read_text(encoding="utf-8")
    more = f"rollout_tasks = {_TRIED}\nsamples = {_SAMPLES}\nretries = {_RETRIES}\n"
    file.write_text(text + more, encoding="utf-8")
    return place


def _copy(place: PipelinePlace, root: Path) -> PipelinePlace:
    shutil.copytree(place.project.parent, root, dirs_exist_ok=True)
    return PipelinePlace(type(place.home)(root / "home"), root / "project")


@pytest.fixture(scope="module")
def nights(begun: PipelinePlace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """The reports of a night that was killed at every stage, and of one that was not."""
    killed, unbroken = (_copy(begun, tmp_path_factory.mktemp(name)) for name in ("killed", "unbroken"))
    for line in _STAGES:
        _kill_at(killed, line)
    reports = {}
    for name, place in (("killed", killed), ("unbroken", unbroken)):
        done = place.koboshi("nightly", "run", "--json")
        assert done.returncode == 0, done.stderr
        reports[name] = json.loads(done.stdout) | {"place": place}
    return reports


def test_a_night_that_was_killed_at_every_stage_ends_as_an_unbroken_one(nights: dict[str, dict[str, object]]) -> None:
    killed, unbroken = nights["killed"], nights["unbroken"]
    same = ("headline", "kind", "candidate", "live", "learnt", "tried")
    assert {key: killed[key] for key in same} == {key: unbroken[key] for key in same}
    assert killed["notes"]


def test_all_attempts_were_one_night_on_one_dataset_with_one_grant(nights: dict[str, dict[str, object]]) -> None:
    place = nights["killed"]["place"]
    assert isinstance(place, PipelinePlace)
    store = Store.read_only(place.home.traces)
    jobs = store.jobs(JOB)
    assert [job.status for job in jobs] == [JobStatus.DONE] + [JobStatus.INTERRUPTED] * len(_STAGES)
    assert len({job.manifest["night_id"] for job in jobs}) == 1
    assert len(list(place.home.reports.glob("night-*.json"))) == 1
    assert [type(entry) for entry in Ledger(place.home.models / FILE_NAME).entries()] == [Grant, Spent]
    assert len(list(place.home.datasets.iterdir())) == 1
    rollouts = [row for row in store.runs(RunFilter(purpose=Purpose.ROLLOUT)) if row.prompt.startswith("try")]
    # The tiny model solves none of them, so each is tried again as often as a night may.
    assert len([row for row in rollouts if row.end_reason]) == _TRIED * (_SAMPLES + _RETRIES)


def test_of_two_nights_at_once_one_leaves_cleanly_and_says_who_is_at_work(begun: PipelinePlace, tmp_path: Path) -> None:
    place = _copy(begun, tmp_path)
    first = _start(place)
    assert first.stderr is not None
    for told in first.stderr:
        if told.startswith("fit:"):
            break
    # Held where it stands: a night on a tiny model would be over before the second had started.
    os.kill(first.pid, signal.SIGSTOP)
    second = place.koboshi("nightly", "run")
    assert (second.returncode, second.stdout) == (1, "")
    assert f"a night is at work already: process {first.pid}, for {place.project}, at " in second.stderr
    assert json.loads(place.koboshi("nightly", "status", "--json").stdout)["at_work"]["pid"] == first.pid
    os.kill(first.pid, signal.SIGCONT)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 0
    assert json.loads(out)["kind"] == "promoted"
    store = Store.read_only(place.home.traces)
    assert (len(store.jobs(JOB)), store.check().ok) == (1, True)
