"""A whole place for the pipeline that fits in seconds: a tiny random model, and a project whose every answer is 7.

Demonstrations teach to say 7, whatever is asked; so a candidate that was trained long enough wins every gate task, and
one that was hardly trained wins none.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_runtime.config import load_config
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.packs import Demonstration, DemoTurn
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.tasks import Task
from koboshi_runtime.templates_init import write_tasks
from koboshi_trainer.demonstrate import play
from koboshi_trainer.workshop import Workshop

GATE_TASKS = 60
LEARNS = ("--epochs", "6", "--learning-rate", "0.01", "--batch-rows", "4")
LEARNS_NOTHING = ("--epochs", "0.1", "--learning-rate", "0.000001", "--batch-rows", "4")
LEARNS_TOO_LITTLE = ("--epochs", "0.3", "--learning-rate", "0.003", "--batch-rows", "4")

_PROJECT = """
[agent]
name = "sevens"
system_prompt = "Say a number."
tools = []

[agent.budgets]
max_steps = 1
reply_tokens = 8
max_tokens = 8

[worker]
threads = 1
batch_threads = 1
context_tokens = 512
parallel = 8

[train]
threads = 1
nice = 1
rank = 8
alpha = 16.0
"""

_NIGHTLY = "[nightly]\nleast_runs = 20\nleast_new = 20\n"


@dataclass(frozen=True, slots=True)
class PipelinePlace:
    """A home with a base model and demonstrations, and the project they are of."""

    home: Home
    project: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.home)

    def workshop(self) -> Workshop:
        settings = load_config(self.project, environment={}, system_file=self.project / "none").settings
        return Workshop.open(self.home, self.project, settings)

    def command(self, verb: str, *arguments: str) -> list[str]:
        program = str(Path(sys.executable).parent / "koboshi")
        return [program, "-C", str(self.project), verb, *arguments]

    def environment(self) -> dict[str, str]:
        own = {"KOBOSHI_HOME": str(self.home.root), "XDG_CONFIG_HOME": str(self.home.root), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own}

    def train(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.koboshi("train", *arguments)

    def koboshi(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(verb, *arguments), self.environment()
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def sevens(split: str, count: int) -> list[Task]:
    """Return tasks of a split, whose answer is 7."""
    checker = {"kind": "number", "answer": "7"}
    return [
        Task.model_validate({"id": f"{split}-{number}", "prompt": f"{split} {number}?", "checker": checker})
        for number in range(count)
    ]


def make_place(root: Path, base: Path, *, demonstrations: int = 24, template: str | None = "mistral") -> PipelinePlace:
    """Add `base` to a new home, write the project, and play its demonstrations; a tiny model knows no template."""
    home = open_home(path=root / "home")
    add_model(home, str(base), AddSettings(name="tiny", template=template))
    project = root / "project"
    (project / "tasks").mkdir(parents=True)
    (project / "koboshi.toml").write_text(_PROJECT, encoding="utf-8")
    write_tasks(project / "tasks" / "gate.jsonl", sevens("gate", GATE_TASKS))
    place = PipelinePlace(home, project)
    solved = [Demonstration(task, (DemoTurn("7"),)) for task in sevens("train", demonstrations)]
    asyncio.run(_play(place, solved))
    return place


def with_nights(place: PipelinePlace, *, learns: bool = True) -> PipelinePlace:
    """Let a project train so that its candidate wins, or so that its file cannot hold what little it learnt."""
    options = LEARNS if learns else LEARNS_NOTHING
    told = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(options[::2], options[1::2], strict=True)
    }
    path = place.project / "koboshi.toml"
    values = "\n".join(f"{key} = {value}" for key, value in told.items())
    text = path.read_text(encoding="utf-8").replace("[train]", f"[train]\n{values}")
    path.write_text(f"{text}\n{_NIGHTLY}", encoding="utf-8")
    return place


async def _play(place: PipelinePlace, solved: Sequence[Demonstration]) -> None:
    workshop = place.workshop()
    base = workshop.registry.current()
    async with workshop.model(base, workshop.learner_profile(base)) as model:
        await play(workshop.runner(model, RunSettings(purpose=Purpose.ROLLOUT, split=Split.TRAIN)), solved)
    workshop.close()
