"""Where a demo left everything, and what to type next."""

import shlex
import shutil
import sys
from pathlib import Path

from koboshi_tools import Frozen

from .place import DemoPlace

# Which tools failed how often, per model.
_QUERY = "SELECT model, tool, calls, failed FROM tool_success"


class Next(Frozen):
    """Paths by what lies there, the model that is live, and commands to copy."""

    places: dict[str, str]
    live: str
    commands: tuple[str, ...]


def next_steps(place: DemoPlace, live: str) -> Next:
    """Return the places and commands of a finished demo; `live` names the model that is current."""
    home, project = place.home, place.project_folder
    (task,) = place.tasks("test", 1)
    koboshi = _program()
    return Next(
        places={
            "project": str(project),
            "home": str(home.root),
            "trace store": str(home.traces),
            "models": str(home.models),
            "training runs": str(home.runs),
            "this report": str(home.reports / "demo.md"),
        },
        live=live,
        commands=(
            f"export KOBOSHI_HOME={shlex.quote(str(home.root))}",
            f"{koboshi} run -C {shlex.quote(str(project))} {shlex.quote(task.prompt)}",
            f"{koboshi} traces list -C {shlex.quote(str(project))}",
            f"{koboshi} models list",
            f'sqlite3 -readonly {shlex.quote(str(home.traces))} "{_QUERY}"',
        ),
    )


def _program() -> str:
    """Return what starts koboshi in this person's shell; in a fresh clone its environment is not on the path."""
    return "koboshi" if shutil.which("koboshi") else shlex.quote(str(Path(sys.executable).with_name("koboshi")))
