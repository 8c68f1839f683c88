"""Questions to one SQLite file of the workspace, which no query can change.

Four things hold that independently: the file is opened read-only, `query_only` is on, an authorizer allows reading
and a list of pragmas, and no database can be attached. Time, rows, cells and the size of any value are bounded. SQLite
opens by name; so the file is opened beside it without following a link, and both must be the same.

Not offered: table-valued functions, which declare a table as they are read. Not covered: the processor time of a
single built-in function on one value of up to 1 MB, and the temporary space that a query fills within its time.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field

from ..definition import ToolContext, tool
from ..errors import ToolError, UsageError
from .inside import open_file

MAX_ROWS = 50
MAX_COLUMNS = 100
MAX_CELL_CHARACTERS = 200
MAX_VALUE_BYTES = 1_000_000
TIME_LIMIT_S = 5.0

# Instructions between two looks at the clock: some tens of microseconds.
_PROGRESS_STEPS = 2000
_READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, getattr(sqlite3, "SQLITE_RECURSIVE", 33)}
)
_PRAGMAS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"})
_FUNCTIONS_DENIED = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zipfile", "fsdir"})


@tool
def sql(query: Annotated[str, Field(min_length=1, max_length=400)], context: ToolContext) -> str:
    """Run one SELECT on the SQLite database."""
    with _connection(context.workspace.resolve(), _database(context)) as connection:
        cursor = connection.execute(query)
        # Row by row: fifty rows of the largest values would not fit in memory together.
        lines = [" | ".join(_cell(value) for value in row) for row in islice(cursor, MAX_ROWS)]
        is_cut = cursor.fetchone() is not None
        header = " | ".join(_cell(column[0]) for column in cursor.description or ())
    if not lines:
        return "no rows"
    return "\n".join([header, *lines, *([f"(only the first {MAX_ROWS} rows)"] if is_cut else [])])


def _database(context: ToolContext) -> Path:
    """Return the file that the settings name. A wrong setting is for the operator, not for the model."""
    named = context.settings.get("database")
    if not isinstance(named, str) or not named:
        raise UsageError(
            f"the sql tool has no database: {named!r}",
            hint='Set database = "FILE.db" under [tools.sql] in koboshi.toml.',
        )
    workspace = context.workspace.resolve()
    path = (workspace / named).resolve()
    if not path.is_relative_to(workspace) or not path.is_file():
        raise UsageError(f"the sql tool's database {named!r} is not a file of the workspace {workspace}")
    return path


@contextmanager
def _connection(workspace: Path, path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that only reads. Whatever SQLite says against a query becomes a ToolError."""
    deadline = time.monotonic() + TIME_LIMIT_S
    beside = open_file(workspace, str(path.relative_to(workspace)))
    try:
        with beside as descriptor, closing(_open(path)) as connection:
            if not _is_open_twice(descriptor):
                raise ToolError("the database was replaced while it was opened; ask again")
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
            yield connection
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise ToolError(_explained(str(error))) from error


def _is_open_twice(descriptor: int) -> bool:
    """Say whether this process has the file of a descriptor open a second time."""
    wanted, found = os.fstat(descriptor), 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.path.samestat(os.stat(int(name)), wanted)
        except OSError:
            continue
    return found > 1


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1.0, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", errors="replace")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, MAX_COLUMNS)
    # SQLite matches LIKE and GLOB by backtracking: long patterns would take longer than the clock is looked at.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100)
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        allowed = (first or "").lower() in _PRAGMAS
    elif action == sqlite3.SQLITE_FUNCTION:
        allowed = (second or "").lower() not in _FUNCTIONS_DENIED
    else:
        allowed = action in _READING
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _explained(message: str) -> str:
    match message:
        case "not authorized":
            return "not authorized: only SELECT is possible here"
        case "interrupted":
            return f"the query took more than {TIME_LIMIT_S:g} s"
        case _:
            return message


def _cell(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return f"<{len(value)} bytes>"
        case float():
            # Twelve digits hide the noise of binary fractions: 19.990000000000002 is 19.99.
            return f"{value:.12g}"
        case _:
            text = " ".join(str(value).split())
            return text if len(text) <= MAX_CELL_CHARACTERS else text[:MAX_CELL_CHARACTERS] + "…"
