"""What the Tab key offers for a run or a model: the kinds of parameters that name one.

It has to be quick, and quiet where there is nothing to offer: it makes no home, takes no lock, and reads the newest
runs with a query of its own, because importing the store takes longer than a person waits for a Tab key.
"""

import sqlite3
from typing import Any
from urllib.parse import quote

import click
from click.shell_completion import CompletionItem

_OFFERED = 30
_ABOUT = 50
_LENGTH_OF_ID = 8
_NEWEST = (
    "SELECT substr(run_id, 1, ?), CAST(prompt AS TEXT) FROM runs "
    "WHERE substr(run_id, 1, ?) = ? ORDER BY id DESC LIMIT ?"
)
_ROLES = {"current": "the live model", "previous": "the one before it", "base": "the one that all training began with"}


class _RunKind(click.ParamType[str]):
    """A run: its id or the beginning of it, `@last`, or `-` for standard input."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return what was given; the store resolves it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the newest runs whose id begins with `incomplete`."""
        last = [CompletionItem("@last", help="the newest run")] if "@last".startswith(incomplete) else []
        return [*last, *(CompletionItem(run_id, help=about) for run_id, about in _newest_runs(incomplete))]


class _ModelKind(click.ParamType[str]):
    """A model: `current`, `previous`, `base`, a name, or 8 or more characters of its hash."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return what was given; the registry resolves it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the roles and the models whose name begins with `incomplete`."""
        offered = {**_ROLES, **_models()}
        return [CompletionItem(ref, help=about) for ref, about in offered.items() if ref.startswith(incomplete)]


RUN = _RunKind()
MODEL = _ModelKind()


def _newest_runs(begun: str) -> list[tuple[str, str]]:
    from ..home import home_path
    from ..text import plain

    path = home_path() / "traces.db"
    length = max(_LENGTH_OF_ID, len(begun))
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    except sqlite3.Error:
        return []
    try:
        rows = db.execute(_NEWEST, (length, len(begun), begun, _OFFERED)).fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return []
    finally:
        db.close()
    return [(run_id, plain(" ".join(prompt.split()), width=_ABOUT)) for run_id, prompt in rows]


def _models() -> dict[str, str]:
    from koboshi_tools import KoboshiError

    from ..home import Home, home_path
    from ..models.registry import Registry

    try:
        return {entry.manifest.name: entry.state.value for entry in Registry(Home(home_path())).list()}
    except KoboshiError:
        return {}
