"""A project: a folder with `koboshi.toml` and `tools/ policies/ tasks/ checks/ workspace/`.

The demo packs are projects, loaded by this code like any other. Only the workspace is within a tool's reach; a task may
name a folder inside it to run in, and no name leads out of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from koboshi_tools import UsageError

from .checkers import CheckSettings, ProjectCheck, refuse_commands
from .project_file import DEFAULT_SYSTEM_PROMPT, FILE_NAME, Budgets, read_project_file
from .tasks import Task

__all__ = ["FILE_NAME", "Budgets", "Project", "bare_project", "load_project"]


@dataclass(frozen=True, slots=True)
class Project:
    """A project as loaded; `root` is absolute, `policies` are files or folders of rules that exist."""

    name: str
    root: Path
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    model: str = "current"
    tools: tuple[str, ...] = ("*",)
    tool_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    checks: tuple[ProjectCheck, ...] = ()
    policies: tuple[Path, ...] = ()

    @property
    def workspace(self) -> Path:
        """The folder that tools may reach."""
        return self.root / "workspace"

    @property
    def tasks_folder(self) -> Path:
        """The task files: train, dev, gate, test, test_shapes, and any other."""
        return self.root / "tasks"

    @property
    def checks_folder(self) -> Path:
        """The programs that may judge a run."""
        return self.root / "checks"

    @property
    def tools_folder(self) -> Path:
        """The project's own tools."""
        return self.root / "tools"

    def task_file(self, split: str) -> Path:
        """Return the task file of a split by its name (`train`, `dev`, `gate`, `test`, `test_shapes`)."""
        return self.tasks_folder / f"{split}.jsonl"

    def select_tools(self, available: Iterable[str]) -> tuple[str, ...]:
        """Return which `available` tools the project offers. Raises UsageError for a plain name that is not there."""
        names = list(available)
        chosen: dict[str, None] = {}
        for pattern in self.tools:
            matching = [name for name in names if fnmatchcase(name, pattern)]
            if not matching and not set(pattern) & set("*?["):
                near = get_close_matches(pattern, names, n=1)
                raise UsageError(
                    f"the project {self.name!r} names the tool {pattern!r}, which does not exist",
                    hint=f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(names))}.",
                )
            chosen.update(dict.fromkeys(matching))
        return tuple(chosen)

    def task_workspace(self, task: Task) -> Path:
        """Return the folder that a run of `task` works in, made if the project has none yet.

        Raises UsageError where `meta.workspace` is no existing folder inside the workspace.
        """
        self.workspace.mkdir(exist_ok=True)
        inner = task.meta.get("workspace")
        if inner is None:
            return self.workspace
        path = (self.workspace / inner).resolve() if isinstance(inner, str) and "\0" not in inner else Path()
        if not path.is_relative_to(self.workspace.resolve()) or not path.is_dir():
            raise UsageError(f"task {task.id!r}: the workspace {inner!r} is not a folder inside {self.workspace}")
        return path

    def check_settings(self, *, allow_commands: bool) -> CheckSettings:
        """Return what checkers may do here."""
        return CheckSettings(allow_commands=allow_commands, checks=self.checks_folder)

    def refuse_unrunnable(self, tasks: Sequence[Task], settings: CheckSettings) -> None:
        """Raise UsageError if any task could not be run or judged here; call it before the first one runs."""
        for task in tasks:
            self.task_workspace(task)
        refuse_commands([*(task.checker for task in tasks), *self.checks], settings)


def load_project(folder: Path) -> Project:
    """Return the project in `folder`. Raises UsageError where its `koboshi.toml` is missing or wrong."""
    root = folder.resolve()
    file = read_project_file(root / FILE_NAME)
    agent = file.agent
    return Project(
        name=agent.name or root.name,
        root=root,
        system_prompt=agent.system_prompt,
        model=agent.model,
        tools=agent.tools,
        tool_settings=file.tools,
        budgets=agent.budgets,
        checks=file.outcome,
        policies=_policies(root, file.policy.files),
    )


def bare_project(folder: Path) -> Project:
    """Return a project of defaults for a folder that has no `koboshi.toml`; `folder/workspace` is its workspace."""
    return Project(name=folder.resolve().name, root=folder.resolve())


def _policies(root: Path, files: Sequence[str]) -> tuple[Path, ...]:
    paths = tuple(root / name for name in files)
    for path in paths:
        if not path.exists() and path != root / "policies":
            raise UsageError(f"the policy {path} does not exist", hint=f"Mend [policy] files in {root / FILE_NAME}.")
    return tuple(path for path in paths if path.exists())
