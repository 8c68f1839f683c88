"""A process that carries runs is killed at random moments. Nothing acknowledged is lost, no effect happens twice."""

import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from tests.faults.kill_run_child import RUNS
from tests.runtime.run_makers import notes

from koboshi_runtime.records import EndReason, OutcomeLabel, RunStatus
from koboshi_runtime.store import RunFilter, Store
from koboshi_tools import Transport

ROOT = Path(__file__).parents[2]
KILLS = 10


def child(folder: Path, verb: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.kill_run_child", str(folder), verb]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill_at(folder: Path, verb: str, wanted_notes: int, delay_s: float) -> list[str]:
    """Start runs, kill the process some time after that many notes, and return what it had acknowledged."""
    process = child(folder, verb)
    file = folder / "workspace" / "notes"
    while process.poll() is None and (not file.exists() or file.read_bytes().count(b"\n") < wanted_notes):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.002)
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay_s)
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    acknowledged = process.stdout.read().split()
    process.wait()
    return acknowledged


def resumed(folder: Path) -> None:
    process = child(folder, "resume")
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(KILLS))
def test_killed_runs_are_resumed_to_their_end_and_no_effect_happens_twice(tmp_path: Path, kill: int) -> None:
    (tmp_path / "workspace").mkdir()
    chance = random.Random(kill)
    acknowledged = kill_at(tmp_path, "a", chance.randrange(RUNS * 4), chance.uniform(0, 0.05))
    store = Store.open(tmp_path / "traces.db")
    assert store.check().ok
    before = {run_id: store.trajectory(run_id) for run_id in acknowledged}
    assert all(trajectory.outcome is OutcomeLabel.SUCCESS for trajectory in before.values())
    resumed(tmp_path)
    assert store.unfinished() == []
    made = Counter(notes(tmp_path))
    assert set(made.values()) <= {1}
    for row in store.runs(RunFilter(limit=None)):
        found = store.trajectory(row.run_id)
        noted = [call for call in found.calls if call.intent.call.name == "note" and call.result]
        assert all(call.result and call.result.transport is Transport.OK for call in noted)
        assert all(made[call.intent.call.arguments["text"]] == 1 for call in noted)
        assert found.end is not None
        if found.end.reason is EndReason.IN_DOUBT:
            # Nobody attended: such a run says so, and what it had begun was not begun again.
            assert row.status is RunStatus.FAILED
        else:
            assert (found.end.reason, len(noted), found.outcome) == (EndReason.ANSWER, 4, OutcomeLabel.SUCCESS)
    assert {run_id: len(store.trajectory(run_id).calls) for run_id in before} == {
        run_id: len(trajectory.calls) for run_id, trajectory in before.items()
    }


@pytest.mark.slow
def test_runs_killed_again_while_they_are_resumed_still_end(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    for kill, wanted in enumerate((8, 20, 32)):
        kill_at(tmp_path, "resume" if kill else "a", wanted, 0.01)
    resumed(tmp_path)
    store = Store.open(tmp_path / "traces.db")
    assert store.unfinished() == []
    assert set(Counter(notes(tmp_path)).values()) <= {1}
    assert all(row.status in (RunStatus.FINISHED, RunStatus.FAILED) for row in store.runs(RunFilter(limit=None)))
