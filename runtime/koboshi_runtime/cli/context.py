"""What commands share: where they work, and how they print.

Results go to stdout by `echo_json` and `table`, progress to stderr by `progress`. Heavy imports wait for their use.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .root import PLACE

if TYPE_CHECKING:
    from ..config import Config
    from ..home import Home
    from ..worker_process import WorkerProcess

__all__ = ["early_worker", "echo_json", "load_config_here", "open_home", "progress", "project_dir", "table"]


def open_home(*, create: bool = True) -> "Home":
    """Return the home, nothing of which is written from here on with what `[redact]` calls secret.

    Raises KoboshiError where it cannot be trusted or made.
    """
    from .. import home, redact

    secret = load_config_here().settings.redact
    redact.use(secret.patterns, secret.keep)
    return home.open_home(create=create)


def project_dir() -> Path | None:
    """Return the project's folder: of `-C DIR`, else of the working directory, or its nearest parent's.

    Raises UsageError if `-C` was given and there is no project in it or above it.
    """
    from koboshi_tools import UsageError

    from ..config import find_project

    context = click.get_current_context(silent=True)
    named: Path | None = context.meta.get(PLACE) if context else None
    found = find_project(named or Path.cwd())
    if found is None and named is not None:
        raise UsageError(f"no koboshi.toml in {named} or above it", hint=f"Make a project with: koboshi init {named}")
    return found


@contextmanager
def early_worker() -> Iterator["WorkerProcess | None"]:
    """Give a worker that starts while the command does; none where a server has one already."""
    from ..home import Home, home_path
    from ..worker_process import early_worker as started

    if _served(Home(home_path())):
        yield None
        return
    with started() as process:
        yield process


def _served(home: "Home") -> bool:
    if not home.server.exists():
        return False
    from ..presence import running_server

    return running_server(home) is not None


def load_config_here(flags: Mapping[str, Any] | None = None) -> "Config":
    """Return the configuration of this place; `flags` are dotted keys, None where a flag was not given."""
    from ..config import load_config

    return load_config(project_dir(), flags or {})


def echo_json(value: Any) -> None:
    """Print `value` as one line of JSON in ASCII, so that nothing in it can act on a terminal."""
    click.echo(json.dumps(value))


def progress(text: str) -> None:
    """Print a line for the person who waits, on stderr."""
    from ..text import plain

    click.echo(plain(text), err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns: a table on a terminal, else tab-separated lines with the columns first."""
    from ..text import plain

    safe = [[plain(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        click.echo("\n".join("\t".join(row) for row in [list(columns), *safe]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for column in columns:
        shown.add_column(Text(column))
    for row in safe:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)
