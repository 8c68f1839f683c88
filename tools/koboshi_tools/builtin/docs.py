"""Full-text search over a folder of the workspace, by SQLite's FTS5, in memory.

`folder` names it, the workspace itself by default. The index is made at the first question and again when a file's
size or time changed; nothing of it is stored. Files are read as `files_search` reads them, with the same bounds.
"""

import re
import sqlite3
import threading
from typing import Annotated, NamedTuple

from pydantic import Field

from ..definition import ToolContext, tool
from ..errors import ToolError, UsageError
from .files import FilePath, folder_state, texts
from .inside import open_folder

MAX_HITS = 6
PASSAGE_LINES = 12

_SNIPPET_WORDS = 40
_MAX_INDEXES = 4


class _Index(NamedTuple):
    state: str
    connection: sqlite3.Connection


_indexes: dict[tuple[str, str], _Index] = {}
_guard = threading.Lock()


@tool
def docs(query: Annotated[str, Field(min_length=1, max_length=200)], context: ToolContext) -> str:
    """Search the documents for words, the best passages first."""
    words = re.findall(r"\w+", query)
    if not words:
        raise ToolError("the query has no words")
    folder = context.settings.get("folder", ".")
    if not isinstance(folder, str):
        raise UsageError(f"the folder of docs is {folder!r}", hint='Write folder = "docs".')
    with _guard:
        found = _best(_index(context, folder), words)
    return "\n\n".join(f"{path}:{line}\n{passage}" for path, line, passage in found) or "nothing found"


def _best(connection: sqlite3.Connection, words: list[str]) -> list[tuple[str, int, str]]:
    # All of the words if some passage has them, else any.
    for joined in (" AND ", " OR "):
        wanted = joined.join(f'"{word}"' for word in words)
        found = connection.execute(
            "SELECT path, line, snippet(passages, 2, '', '', '…', ?) FROM passages WHERE passages MATCH ?"
            " ORDER BY rank LIMIT ?",
            (_SNIPPET_WORDS, wanted, MAX_HITS),
        ).fetchall()
        if found:
            return found
    return []


def _index(context: ToolContext, folder: FilePath) -> sqlite3.Connection:
    key = (str(context.workspace), folder)
    with open_folder(context.workspace, folder) as descriptor:
        state = folder_state(descriptor)
        known = _indexes.pop(key, None)
        if known is None or known.state != state:
            known = _Index(state, _made(descriptor))
    # The last in order is the last that was used.
    _indexes[key] = known
    for oldest in list(_indexes)[:-_MAX_INDEXES]:
        _indexes.pop(oldest).connection.close()
    return known.connection


def _made(descriptor: int) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute(
        "CREATE VIRTUAL TABLE passages USING fts5(path UNINDEXED, line UNINDEXED, text,"
        " tokenize='porter unicode61 remove_diacritics 2')"
    )
    for path, text in texts(descriptor):
        lines = text.splitlines()
        rows = [
            (path, start + 1, "\n".join(lines[start : start + PASSAGE_LINES]))
            for start in range(0, len(lines), PASSAGE_LINES)
        ]
        connection.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
    return connection
