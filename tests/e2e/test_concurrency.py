"""Without a server: whoever has the command line may use one home at the same time as everybody else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from koboshi_runtime.home import open_home
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.records import Purpose
from koboshi_runtime.store import RunFilter, Store

pytestmark = [pytest.mark.slow, pytest.mark.model]

TASKS = 6
LABELS = 8

_PROJECT = """
[agent]
system_prompt = "Answer shortly."
tools = []

[agent.budgets]
max_steps = 2
max_tokens = 24
reply_tokens = 12
max_seconds = 3600

[worker]
threads = 1
batch_threads = 1
context_tokens = 256
parallel = 3
"""


class Place:
    """A home, a project and the command line on both."""

    def __init__(self, root: Path, model: Path) -> None:
        self.home = open_home(path=root / "home")
        self.project = root / "project"
        self.project.mkdir()
        (self.project / "koboshi.toml").write_text(_PROJECT, encoding="utf-8")
        add_model(self.home, str(model), AddSettings(name="smollm2"))

    def tasks(self, name: str) -> str:
        """Write a task file of that name and return its path."""
        checker = {"kind": "number", "answer": "7"}
        lines = [{"id": f"{name}-{n}", "prompt": f"{name} {n} + 7?", "checker": checker} for n in range(TASKS)]
        path = self.project / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return str(path)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        program = str(Path(sys.executable).parent / "koboshi")
        environment = {**os.environ, "KOBOSHI_HOME": str(self.home.root), "XDG_CONFIG_HOME": str(self.home.root)}
        return subprocess.Popen(
            [program, "-C", str(self.project), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _first_line(stream: IO[str] | None) -> dict[str, object]:
    assert stream is not None
    found: dict[str, object] = json.loads(stream.readline())
    return found


def test_two_runs_labels_and_an_evaluation_at_once_all_succeed(smollm2_gguf: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, smollm2_gguf)
    one = place.start("run", "--tasks", place.tasks("one"), "--json")
    other = place.start("run", "--tasks", place.tasks("other"), "--json")
    measured = place.start("eval", "--tasks", place.tasks("measured"), "--json")
    run_id = str(_first_line(one.stdout)["run_id"])
    for number in range(LABELS):
        told = place.start("outcome", "set", run_id, "success", "--why", str(number), "--json").communicate()
        assert json.loads(told[0])["run_id"] == run_id, told[1]
    ended = {
        name: (done.communicate(), done.returncode)
        for name, done in (("one", one), ("other", other), ("measured", measured))
    }
    assert {name: code for name, (_, code) in ended.items()} == dict.fromkeys(ended, 0), ended
    assert len(ended["one"][0][0].splitlines()) == TASKS - 1
    assert len(ended["other"][0][0].splitlines()) == TASKS
    assert json.loads(ended["measured"][0][0])["tasks"] == TASKS

    store = Store.read_only(place.home.traces)
    assert store.check().ok
    purposes = [row.purpose for row in store.runs(RunFilter(limit=None))]
    assert {purpose: purposes.count(purpose) for purpose in set(purposes)} == {
        Purpose.WORK: 2 * TASKS,
        Purpose.EVAL: TASKS,
    }
    labelled = store.trajectory(run_id)
    assert [outcome.rationale for outcome in labelled.outcomes if outcome.who != "number"] == [
        str(n) for n in range(LABELS)
    ]
    assert store.unfinished() == []
