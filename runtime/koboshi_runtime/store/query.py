"""Questions over many runs: search, short ids, models, jobs, and the health of the file.

Functions here take an open read-only connection with `sqlite3.Row` rows. The order of runs is the order of writing, the
newest first, whatever the clock said.
"""

import sqlite3
from collections.abc import Sequence

from koboshi_tools import UsageError

from ..records import Purpose, Split
from .codecs import unpack_json, unpack_text
from .rows import JobRow, ModelRow, SearchHit
from .runs import quote_words

_MATCHES_SHOWN = 10
_EXCERPT_WORDS = 24

_SEARCH = f"""
SELECT run_id, step_index, place AS "where", CAST(excerpt AS BLOB) AS excerpt FROM (
  SELECT r.id AS run, r.run_id, NULL AS step_index, 'run' AS place,
    snippet(runs_fts, -1, '[', ']', '…', {_EXCERPT_WORDS}) AS excerpt, rank
  FROM runs_fts JOIN runs r ON r.id = runs_fts.rowid WHERE runs_fts MATCH :text
  UNION ALL SELECT r.id, s.run_id, s.step_index, 'reply', snippet(steps_fts, -1, '[', ']', '…', {_EXCERPT_WORDS}), rank
  FROM steps_fts JOIN steps s ON s.step_id = steps_fts.rowid JOIN runs r USING (run_id) WHERE steps_fts MATCH :text
  UNION ALL SELECT r.id, c.run_id, c.step_index, 'call', snippet(tool_calls_fts, -1, '[', ']', '…', {_EXCERPT_WORDS}),
    rank FROM tool_calls_fts JOIN tool_calls c ON c.call_id = tool_calls_fts.rowid JOIN runs r USING (run_id)
  WHERE tool_calls_fts MATCH :text
) ORDER BY run DESC, step_index, place LIMIT :limit
"""


def list_run_ids(
    db: sqlite3.Connection, purposes: Sequence[Purpose], splits: Sequence[Split], since: str | None
) -> list[str]:
    """Return the ids of runs in the order of writing; an empty `purposes` or `splits` means all."""
    conditions, values = ["created_at >= ?"], [since or ""]
    for column, wanted in (("purpose", purposes), ("split", splits)):
        if wanted:
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    rows = db.execute(f"SELECT run_id FROM runs WHERE {' AND '.join(conditions)} ORDER BY id", values)
    return [row["run_id"] for row in rows]


def search(db: sqlite3.Connection, text: str, limit: int) -> list[SearchHit]:
    """Return the places where all words of `text` occur, the newest run first."""
    rows = db.execute(_SEARCH, {"text": quote_words(text), "limit": limit})
    return [SearchHit(**{**dict(row), "excerpt": row["excerpt"].decode("utf-8", "replace")}) for row in rows]


def resolve(db: sqlite3.Connection, ref: str) -> str:
    """Return the run id that `ref` names: an id, its beginning, or `@last`. Raises UsageError."""
    if ref == "@last":
        row = db.execute("SELECT run_id FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        if row is None:
            raise UsageError("There is no last run: nothing is recorded yet.", hint='Try `koboshi run "PROMPT"`.')
        return str(row["run_id"])
    sql = "SELECT run_id FROM runs WHERE substr(run_id, 1, length(:ref)) = :ref AND :ref <> ''"
    found = [str(row["run_id"]) for row in db.execute(f"{sql} ORDER BY run_id = :ref DESC, run_id", {"ref": ref})]
    if not found:
        raise UsageError(f"No run begins with {ref!r}.", hint="`koboshi traces list` shows what is recorded.")
    if found[0] == ref or len(found) == 1:
        return found[0]
    listed = ", ".join(found[:_MATCHES_SHOWN]) + (", …" if len(found) > _MATCHES_SHOWN else "")
    raise UsageError(f"{ref!r} begins {len(found)} runs: {listed}.", hint=f"Give more than {len(ref)} characters.")


def list_models(db: sqlite3.Connection) -> list[ModelRow]:
    """Return the models that were recorded, the oldest first."""
    return [
        ModelRow(
            **{**dict(row), "name": unpack_text(row["name"])}
            | {name: unpack_json(row[name]) for name in ("profile", "manifest")}
        )
        for row in db.execute("SELECT * FROM models ORDER BY rowid")
    ]


def list_jobs(db: sqlite3.Connection, kind: str | None) -> list[JobRow]:
    """Return the jobs of `kind`, or all, the newest first."""
    rows = db.execute("SELECT * FROM jobs WHERE kind = coalesce(?, kind) ORDER BY rowid DESC", (kind,))
    return [
        JobRow(
            **{**dict(row), "manifest": unpack_json(row["manifest"])}
            | {"result": None if row["result"] is None else unpack_json(row["result"])}
        )
        for row in rows
    ]


def find_problems(db: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with the file: pages, indexes, keys that point nowhere."""
    try:
        pages = [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        keys = [f"{row[0]} row {row[1]} points to no {row[2]}" for row in db.execute("PRAGMA foreign_key_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return pages + keys


def count_rows(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many runs and steps there are, and calls in doubt."""
    tables = {"runs": "runs", "steps": "steps", "in_doubt": "in_doubt_calls"}
    return {name: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for name, table in tables.items()}
