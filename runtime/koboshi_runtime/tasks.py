"""The task file: JSON Lines, one task a line, each with what is asked and how the answer is judged.

A file is read whole before anything runs. Every bad line is refused by its number and reason, the first ten of them in
one error, so that a person mends a file once. Two tasks of one file never share an id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from koboshi_tools import Frozen, ToolSpec, UsageError

from . import strict_json
from .checkers import Checker
from .ids import prompt_hash
from .records import Split
from .refusals import first_reason
from .tool_specs import read_tool_spec

_SHOWN_LINES = 10
_SPLIT_FILES = {split.value: split for split in Split} | {"test_shapes": Split.TEST}


class Task(Frozen):
    """What is asked, with its checker; `checker` may be null where the project's own checks judge.

    `tools` and `tool_specs` are None where the file leaves them out: `offered_tools` says what that means.
    """

    id: str = Field(min_length=1, max_length=200)
    prompt: str = Field(min_length=1)
    checker: Checker | None
    tools: tuple[str, ...] | None = None
    tool_specs: tuple[ToolSpec, ...] | None = None
    meta: dict[str, Any] = Field(default_factory=dict)

    @field_validator("prompt")
    @classmethod
    def _asks(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the prompt is blank")
        return value

    @field_validator("tools")
    @classmethod
    def _tools_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value and len(set(value)) < len(value):
            raise ValueError(f"a tool is named twice in {list(value)!r}")
        return value

    @field_validator("tool_specs", mode="before")
    @classmethod
    def _read_specs(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        specs = tuple(read_tool_spec(item) for item in value)
        if len({spec.name for spec in specs}) < len(specs):
            raise ValueError(f"two tool specs share a name: {[spec.name for spec in specs]!r}")
        return specs

    def as_json(self) -> dict[str, Any]:
        """Return the task as its line of a task file holds it: what was left out stays out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """What a run shows its model: tools of ours by name, and the task's own functions, which are never executed."""

    names: tuple[str, ...]
    specs: tuple[ToolSpec, ...]


def offered_tools(task: Task, policy_allowed: Sequence[str]) -> OfferedTools:
    """Return what `task` offers, of the tools that the policy allows.

    No `tools`: the task's own functions if it has `tool_specs`, otherwise all that the policy allows. An empty `tools`
    offers nothing. Named tools are offered beside the task's own functions, which shadow ours of the same name. Raises
    UsageError for a name that is neither.
    """
    if task.tools is None:
        return OfferedTools(tuple(policy_allowed), ()) if task.tool_specs is None else OfferedTools((), task.tool_specs)
    specs = (task.tool_specs or ()) if task.tools else ()
    own = {spec.name for spec in specs}
    unknown = [name for name in task.tools if name not in own and name not in policy_allowed]
    if unknown:
        raise UsageError(
            f"task {task.id!r} names the tool {unknown[0]!r}, which is unknown or denied",
            hint=f"The policy allows: {', '.join(policy_allowed) or 'none'}.",
        )
    return OfferedTools(tuple(name for name in task.tools if name not in own), specs)


def load_tasks(path: Path) -> tuple[Task, ...]:
    """Return the tasks of a file in its order. Raises UsageError that lists its bad lines by number and reason."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the task file {path} cannot be read: {error.strerror}") from error
    return parse_tasks(data, str(path))


def parse_tasks(data: bytes | str, name: str) -> tuple[Task, ...]:
    """Return the tasks of a file's content; `name` is what an error calls it. Raises UsageError like `load_tasks`."""
    tasks: list[Task] = []
    lines: dict[str, int] = {}
    bad: list[str] = []
    content = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            task = parse_task(line)
            if task.id in lines:
                raise ValueError(f"the id {task.id!r} is that of line {lines[task.id]}")
        except ValueError as error:
            bad.append(f"line {number}: {error}")
            continue
        lines[task.id] = number
        tasks.append(task)
    if bad:
        raise UsageError(_refusal(name, bad), hint="The task file is described in docs/reference/task-file.md.")
    return tuple(tasks)


def parse_task(line: str | bytes) -> Task:
    """Return the task of one line; ValueError says in one sentence what is wrong with it."""
    try:
        value = strict_json.loads(line if isinstance(line, str) else line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {error.start + 1}") from error
    if not isinstance(value, dict):
        raise ValueError(f"a task is an object, not {type(value).__name__}")
    try:
        return Task.model_validate(value)
    except ValidationError as error:
        raise ValueError(first_reason(error)) from error


def prompt_task(prompt: str) -> Task:
    """Return a prompt as a task that nothing checks, its id made of its hash. Raises UsageError if it is blank."""
    if not prompt.strip():
        raise UsageError("the prompt is blank")
    return Task(id=f"prompt-{prompt_hash(prompt).removeprefix('sha256:')[:12]}", prompt=prompt, checker=None)


def split_of_file(path: Path) -> Split | None:
    """Return the split that a file's name gives its tasks (`train.jsonl`, ...), or None if it gives none."""
    return _SPLIT_FILES.get(path.stem)


def _refusal(name: str, bad: list[str]) -> str:
    more = f"\n… and {len(bad) - _SHOWN_LINES} more" if len(bad) > _SHOWN_LINES else ""
    return f"{name}: {len(bad)} bad line{'s' * (len(bad) > 1)}\n" + "\n".join(bad[:_SHOWN_LINES]) + more
