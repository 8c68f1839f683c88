"""Making a project: the blank one, or a demo pack with its generated tasks and workspace.

The folder appears whole or not at all: it is built beside its place and renamed into it. Nothing that exists is written
over.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_tools import UsageError

from .packs import Pack, load_pack
from .project import FILE_NAME
from .tasks import Task

_BLANK = Path(__file__).parent / "packs" / "blank"
_STATIC = (FILE_NAME, "README.md", "policies", "tasks", "tools", "checks")
_FOLDERS = ("tools", "policies", "tasks", "checks", "workspace")


@dataclass(frozen=True, slots=True)
class MadeProject:
    """Where a project was made, and how many tasks each of its files holds."""

    root: Path
    tasks: dict[str, int]


def init_project(folder: Path, pack: str | None = None, *, seed: int = 0) -> MadeProject:
    """Make a project in `folder`. Raises UsageError if that is not new or empty, or the pack is unknown."""
    source = load_pack(pack) if pack else None
    root = folder.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} exists and is not an empty folder", hint="Name a new folder; nothing is overwritten.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".koboshi-init-", dir=root.parent) as scratch:
        built = Path(scratch) / "project"
        counts = _build(built, source, seed)
        built.rename(root)
    return MadeProject(root, counts)


def write_tasks(path: Path, tasks: Sequence[Task]) -> None:
    """Write a task file."""
    lines = [json.dumps(task.as_json(), ensure_ascii=False) + "\n" for task in tasks]
    path.write_text("".join(lines), encoding="utf-8")


def _build(root: Path, pack: Pack | None, seed: int) -> dict[str, int]:
    root.mkdir()
    for name in _FOLDERS:
        (root / name).mkdir()
    _copy_static(pack.folder if pack else _BLANK, root)
    if pack is None:
        return {"train": 1}
    for split, count in pack.sizes.items():
        write_tasks(root / "tasks" / f"{split}.jsonl", pack.generate(split, count, seed))
    pack.write_workspace(root / "workspace", seed)
    return dict(pack.sizes)


def _copy_static(source: Path, root: Path) -> None:
    for name in _STATIC:
        if (source / name).is_dir():
            shutil.copytree(source / name, root / name, dirs_exist_ok=True)
        elif (source / name).exists():
            shutil.copyfile(source / name, root / name)
