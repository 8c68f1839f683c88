"""Tasks and demonstrations of an experiment, from the places that its file names.

A path is relative to the experiment file, or `data:NAME/path` inside a folder that `--data NAME=DIR` gave. What comes
out is a value: its hash goes into the keys of all that is made from it, so that other data is another result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.packs import Demonstration, DemoTurn, load_pack
from koboshi_runtime.tasks import Task, load_tasks
from koboshi_tools import Frozen, ToolCall, UsageError, hash_value

from ..canaries import canaries
from ..gsm8k import read_demonstrations, read_problems
from .file import Source

Item = TypeVar("Item")

_DATA = "data:"
# More than any pack can draw, so that a pack is asked for what its own file would hold.
_ALL_DEMONSTRATIONS = 200


class _Turn(Frozen):
    text: str = ""
    call: ToolCall | None = None


class _Solved(Frozen):
    """A line of a demonstration file."""

    task: Task
    turns: tuple[_Turn, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """Where paths lead: `folder` is that of the experiment file, `named` what `--data` gave."""

    folder: Path
    named: Mapping[str, Path]

    def path(self, text: str) -> Path:
        """Return the file that `text` names. Raises UsageError for a name that `--data` did not give."""
        if not text.startswith(_DATA):
            return self.folder / text
        name, _, rest = text.removeprefix(_DATA).partition("/")
        if name not in self.named:
            raise UsageError(f"{text!r} is in data that was not given", hint=f"Pass --data {name}=DIR.")
        return self.named[name] / rest


def read_tasks(source: Source, data: Data) -> tuple[Task, ...]:
    """Return the tasks of a source, cut to its part. Raises UsageError where there are none or too few."""
    if source.pack:
        count = source.skip + (source.count or 0) if source.count else load_pack(source.pack).sizes.get(source.split, 0)
        found = load_pack(source.pack).generate(source.split, count, source.seed) if count else []
    elif source.gsm8k:
        found = read_problems(data.path(source.gsm8k), source.steps)
    elif source.canaries:
        found = canaries(source.canaries, source.seed)
    else:
        found = list(load_tasks(data.path(str(source.file))))
    return tuple(_part(found, source))


def read_solved(source: Source, data: Data) -> tuple[Demonstration, ...]:
    """Return the demonstrations of a source, cut to its part. Raises UsageError where there are none or too few."""
    if source.pack:
        count = source.skip + (source.count or _ALL_DEMONSTRATIONS)
        found = load_pack(source.pack).demonstrations(count, source.seed)
    elif source.gsm8k:
        found = read_demonstrations(data.path(source.gsm8k), source.steps)
    elif source.file:
        found = _read_file(data.path(source.file))
    else:
        raise UsageError("canaries are not solved", hint="Demonstrations come from a pack, a file or gsm8k.")
    return tuple(_part(found, source))


def without(tasks: Sequence[Task], prompts: set[str]) -> tuple[Task, ...]:
    """Return `tasks` without those whose normalised prompt has one of these hashes, and without repeated prompts."""
    kept: dict[str, Task] = {}
    for task in tasks:
        kept.setdefault(prompt_hash(task.prompt), task)
    return tuple(task for key, task in kept.items() if key not in prompts)


def tasks_hash(tasks: Sequence[Task]) -> str:
    """Return the hash of what is asked and how it is judged, in this order."""
    return hash_value([task.as_json() for task in tasks])


def solved_hash(solved: Sequence[Demonstration]) -> str:
    """Return the hash of demonstrations: tasks and turns."""
    turns = [[[turn.text, turn.call.model_dump() if turn.call else None] for turn in one.turns] for one in solved]
    return hash_value([[one.task.as_json() for one in solved], turns])


def _part(found: Sequence[Item], source: Source) -> Sequence[Item]:
    part = found[source.skip :][: source.count]
    if not part or (source.count is not None and len(part) < source.count):
        wanted = f"{source.count or 1} from {source.skip} on"
        raise UsageError(f"{_name(source)} has {len(found)} entries, and {wanted} were asked for")
    return part


def _name(source: Source) -> str:
    return source.gsm8k or source.file or source.canaries or f"the pack {source.pack} ({source.split})"


def _read_file(path: Path) -> list[Demonstration]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"the demonstrations {path} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            solved = _Solved.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            raise UsageError(
                f"{path}, line {number}: {str(error).splitlines()[0]}",
                hint='A line is {"task": {...}, "turns": [{"text": ..., "call": {"name": ..., "arguments": {...}}}]}.',
            ) from error
        found.append(Demonstration(solved.task, tuple(DemoTurn(turn.text, turn.call) for turn in solved.turns)))
    return found
