"""What a demo pack gives: tasks for each file of its `tasks` folder, solved examples, and the workspace they run in.

Everything a pack makes is a function of the split, the count and the seed: two machines make the same files. The tasks,
the demonstrations and the workspace of one seed belong together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from koboshi_tools import ToolCall

from ..tasks import Task


@dataclass(frozen=True, slots=True)
class DemoTurn:
    """One turn of a solved task: what is said, and the call that is made; the last turn has none."""

    text: str
    call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A task of the train split with the turns that solve it."""

    task: Task
    turns: tuple[DemoTurn, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """A demo project: its static files, the number of tasks in each file, and its generators."""

    name: str
    folder: Path
    sizes: Mapping[str, int]
    generate: Callable[[str, int, int], list[Task]]
    demonstrations: Callable[[int, int], list[Demonstration]]
    write_workspace: Callable[[Path, int], None]


def first_unseen(draw: Callable[[], Demonstration], seen: set[str]) -> Demonstration | None:
    """Return the first drawn task whose prompt is new, and remember it; None where 200 draws bring nothing new."""
    for _ in range(200):
        drawn = draw()
        if (normal := " ".join(drawn.task.prompt.casefold().split())) not in seen:
            seen.add(normal)
            return drawn
    return None
