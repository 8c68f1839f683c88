"""Making tasks: one line that a person gives, or one for each run that was labelled a success.

A run's answer becomes its task's checker only where it is plain what counts: an answer that ends with a number is
checked by that number, a short line by its text. Any other run is left out unless the caller says how to judge.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koboshi_tools import KoboshiError, UsageError, canonical_json

from .checkers import last_number, whole_number
from .ids import normalise_prompt
from .store.rows import RunRow
from .tasks import Task, load_tasks, parse_task

_SHORT_ANSWER = 40


@dataclass(frozen=True, slots=True)
class MadeTasks:
    """The tasks made, and the ids of the runs left out: already a task of the file, or with no plain answer."""

    tasks: tuple[Task, ...]
    known: tuple[str, ...]
    unclear: tuple[str, ...]


def checker_from_answer(answer: str) -> dict[str, Any] | None:
    """Return the checker that an answer makes plain, or None: a number at its end, or one short line."""
    text = answer.strip()
    words = text.rstrip(".!").split()
    number = last_number(words[-1]) if words else None
    if number is not None and whole_number(words[-1]) is not None:
        return {"kind": "number", "answer": str(number)}
    if text and len(text) <= _SHORT_ANSWER and "\n" not in text:
        return {"kind": "one_of", "answers": [text]}
    return None


def tasks_from_runs(
    runs: Iterable[RunRow], existing: Sequence[Task], *, checker: Mapping[str, Any] | None = None
) -> MadeTasks:
    """Return a task for each run whose prompt `existing` lacks; `checker` judges those whose answer is not plain."""
    prompts = {normalise_prompt(task.prompt) for task in existing}
    tasks: list[Task] = []
    known: list[str] = []
    unclear: list[str] = []
    for run in runs:
        judged = checker_from_answer(run.answer or "") or checker
        if normalise_prompt(run.prompt) in prompts:
            known.append(run.run_id)
        elif judged is None:
            unclear.append(run.run_id)
        else:
            prompts.add(normalise_prompt(run.prompt))
            tasks.append(_task(run, judged))
    return MadeTasks(tuple(tasks), tuple(known), tuple(unclear))


def _task(run: RunRow, checker: Mapping[str, Any]) -> Task:
    line = {"id": f"run-{run.run_id}", "prompt": run.prompt, "checker": dict(checker), "meta": {"from_run": run.run_id}}
    return parse_task(canonical_json(line))


def append_tasks(path: Path, tasks: Sequence[Task]) -> None:
    """Add lines to a task file, made if there is none. Raises UsageError if the file is bad or has one of the ids."""
    present = {task.id for task in load_tasks(path)} if path.exists() else set()
    if taken := [task.id for task in tasks if task.id in present]:
        raise UsageError(f"{path} has a task {taken[0]!r} already", hint="Give the new task another id.")
    lines = "".join(canonical_json(task.as_json()) + "\n" for task in tasks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else b""
        _replace(path, old + (b"\n" if old and not old.endswith(b"\n") else b"") + lines.encode())
    except OSError as error:
        raise KoboshiError(f"the task file {path} cannot be written: {error.strerror}") from error


def _replace(path: Path, data: bytes) -> None:
    """Write the whole file anew: it holds the old lines or all of the new ones, never half a line."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(data)
    scratch.replace(path)
