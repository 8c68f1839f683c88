"""A whole experiment that fits in seconds: a tiny random model, and a project whose every answer is 7.

Demonstrations teach to say 7 of some prompts; the pool's own runs and the arms come from a model that hardly knows it.
"""

import json
from pathlib import Path

from tests.trainer.conftest import Kit
from tests.trainer.pipeline_place import sevens

from koboshi_runtime.config_values import Settings, TrainSettings, WorkerSettings
from koboshi_runtime.home import open_home
from koboshi_runtime.templates_init import write_tasks
from koboshi_trainer.lab.file import read_experiment
from koboshi_trainer.lab.place import LabPlace
from koboshi_trainer.lab.recipe import Recipe
from koboshi_trainer.lab.run import Lab
from koboshi_trainer.lab.sources import Data

PROJECT = """
[agent]
name = "sevens"
system_prompt = "Say a number."
tools = []

[agent.budgets]
max_steps = 1
reply_tokens = 8
max_tokens = 8
"""

EXPERIMENT = """
name = "sevens"
question = "Does a model learn to say 7?"
seeds = [0, 1]
reference = "success"
conditions = "plain"

[base]
source = "base.gguf"
template = "mistral"

[project]
folder = "project"

[worker]
context_tokens = 256
parallel = 8

[seeded]
demonstrations = { file = "solved.jsonl" }
fit = { r = 8, alpha = 16, learning_rate = 0.02, epochs = 3, batch_rows = 4, dtype = "float32" }

[pool]
tasks = [{ file = "train.jsonl" }]
samples = 3
temperature = 1.0

[pool.dataset]
held_out_share = 0.3
left_out = []

[fit]
settings = { r = 8, alpha = 16, learning_rate = 0.01, epochs = 1, batch_rows = 4, dtype = "float32" }

[[arm]]
name = "base"
model = "base"

[[arm]]
name = "seeded"
model = "seeded"
examples = 1

[[arm]]
name = "success"
method = "success"
steps_of = "nat"

[[arm]]
name = "nat"
method = "nat"
decodings = ["greedy", "wrong", "best-of"]

[[decoding]]
name = "wrong"
condition = "failure"

[[decoding]]
name = "best-of"
samples = 3
temperature = 1.0
tasks = 6

[[evaluation]]
name = "sevens"
primary = true
tasks = { file = "test.jsonl" }
"""


def write_experiment(root: Path, kit: Kit, *, text: str = EXPERIMENT) -> Path:
    """Write base, project, tasks, demonstrations and the experiment file; return the file."""
    root.mkdir(exist_ok=True)
    kit.write_tiny_model(root / "base.gguf", "llama")
    project = root / "project"
    project.mkdir()
    (project / "koboshi.toml").write_text(PROJECT, encoding="utf-8")
    for name, count in (("train", 10), ("test", 12)):
        write_tasks(root / f"{name}.jsonl", sevens(name, count))
    solved = [{"task": task.as_json(), "turns": [{"text": "7"}]} for task in sevens("solved", 12)]
    (root / "solved.jsonl").write_text("".join(json.dumps(one) + "\n" for one in solved), encoding="utf-8")
    file = root / "sevens.toml"
    file.write_text(text, encoding="utf-8")
    return file


def open_lab(file: Path, *, results: Path | None = None, work: Path | None = None) -> Lab:
    """Open an experiment as the command does, with one thread."""
    one = WorkerSettings(threads=1, batch_threads=1)
    settings = Settings(worker=one, train=TrainSettings(threads=1))
    home = open_home(path=file.parent / "users-home")
    data, folder = Data(file.parent, {}), work or file.parent / "work"
    place = LabPlace.open(read_experiment(file), data, folder, users_home=home, settings=settings)
    return Lab(Recipe(place), results or file.with_suffix(""))


def run_lab(lab: Lab, root: Path) -> int:
    """Do what is missing, under the lock of a home of its own."""
    return lab.run(open_home(path=root / "home"))
