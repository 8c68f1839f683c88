"""`koboshi demo --quick` on the real model: to the end, again within seconds, with nobody else's home opened."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from koboshi_runtime.home import Home
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.records import Purpose
from koboshi_runtime.store import RunFilter, Store

pytestmark = [pytest.mark.slow, pytest.mark.model]

SECONDS_AGAIN = 30


def _demo(folder: Path, user_home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "koboshi"), "demo", "--quick", "--dir", str(folder), *options]
    environment = {**os.environ, "KOBOSHI_HOME": str(user_home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """The folder of a finished demo, the user's own home, and what the demo printed."""
    root = tmp_path_factory.mktemp("demo")
    return root / "d", root / "user", _demo(root / "d", root / "user")


def test_demo_completes_whatever_the_gates_say_and_shows_a_live_run(
    finished: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, user_home, done = finished
    assert done.returncode == 0, done.stderr
    assert "  asked | " in done.stderr
    assert "  model | " in done.stderr
    assert " left" in done.stderr
    assert "Success on unseen tasks of shop" in done.stdout
    assert "the gate: " in done.stdout
    assert not user_home.exists()
    assert (folder / "shop" / "koboshi.toml").is_file()


def test_report_agrees_with_the_registry_and_the_store(
    finished: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    home = Home(finished[0] / "home")
    report = json.loads((home.reports / "demo.json").read_text())
    live = Registry(home).current().manifest.model_hash
    promoted = [learning["model_hash"] for learning in report["learnings"] if learning["promoted"]]
    assert live == (promoted[-1] if promoted else Registry(home).resolve("base").manifest.model_hash)
    store = Store.read_only(home.traces)
    demonstrations = [run for run in store.runs(RunFilter(purpose=Purpose.ROLLOUT, limit=None))]
    assert sum(store.trajectory(run.run_id).header.demonstration for run in demonstrations) == 16
    store.close()


def test_finished_demo_shows_its_report_within_seconds(
    finished: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    began = time.monotonic()
    again = _demo(finished[0], finished[1])
    assert again.returncode == 0, again.stderr
    assert time.monotonic() - began < SECONDS_AGAIN
    assert again.stdout == finished[2].stdout


def test_demo_with_another_seed_is_refused_in_the_same_folder(
    finished: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    refused = _demo(finished[0], finished[1], "--seed", "9")
    assert refused.returncode == 2
    assert "another plan, pack or seed" in refused.stderr
