"""Questions over many runs: lists, search, short ids, and the health of the file.

Functions here take an open read-only connection with `sqlite3.Row` rows. The order of runs is the order of writing, the
newest first, whatever the clock said.
"""

import sqlite3
from collections.abc import Sequence

from koboshi_tools import UsageError

from .records import Purpose, Split
from .store_codecs import Column, unpack_json, unpack_optional, unpack_text
from .store_rows import JobRow, ModelRow, RunFilter, RunRow, SearchHit

_MATCHES_SHOWN = 10
_EXCERPT_WORDS = 24

_FOUND = """
SELECT run_id FROM runs WHERE id IN (SELECT rowid FROM runs_fts WHERE runs_fts MATCH :text)
UNION SELECT run_id FROM steps WHERE step_id IN (SELECT rowid FROM steps_fts WHERE steps_fts MATCH :text)
UNION SELECT run_id FROM tool_calls WHERE call_id IN (SELECT rowid FROM tool_calls_fts WHERE tool_calls_fts MATCH :text)
"""

_CONDITIONS = {
    "purpose": "r.purpose = :purpose",
    "split": "r.split = :split",
    "status": "r.status = :status",
    "outcome": "v.outcome = :outcome",
    "model": "(v.model = :model OR r.model_hash = :model)",
    "task_id": "r.task_id = :task_id",
    "tool": "r.run_id IN (SELECT run_id FROM tool_calls WHERE tool = :tool)",
    "project": "r.project = :project",
    "text": f"r.run_id IN ({_FOUND})",
    "since": "r.created_at >= :since",
    "imported": "(r.imported IS NOT NULL) = :imported",
}

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


def quote_words(text: str) -> str:
    """Return an FTS5 query for all words of `text`, each taken literally."""
    return " ".join(f'"{word.replace(chr(34), chr(34) * 2)}"' for word in text.replace("\0", " ").split())


def list_runs(db: sqlite3.Connection, wanted: RunFilter) -> list[RunRow]:
    """Return the runs that `wanted` describes, the newest first."""
    values: dict[str, Column] = {k: v for k, v in wanted.model_dump().items() if v is not None}
    conditions = [_CONDITIONS[name] for name in values if name in _CONDITIONS]
    if wanted.text is not None:
        values["text"] = quote_words(wanted.text)
    sql = (
        "SELECT r.*, v.model, v.outcome, v.steps, v.tool_calls FROM runs r JOIN run_overview v USING (run_id) "
        f"WHERE {' AND '.join(conditions) or '1'} ORDER BY r.id DESC LIMIT :limit"
    )
    return [
        _run_row(row, _tools(db, row["run_id"])) for row in db.execute(sql, {**values, "limit": wanted.limit or -1})
    ]


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


def _tools(db: sqlite3.Connection, run_id: str) -> tuple[str, ...]:
    rows = db.execute("SELECT tool FROM tool_calls WHERE run_id = ? GROUP BY tool ORDER BY min(call_id)", (run_id,))
    return tuple(unpack_text(row["tool"]) for row in rows)


def _run_row(row: sqlite3.Row, tools: tuple[str, ...]) -> RunRow:
    return RunRow(
        run_id=row["run_id"],
        created_at=row["created_at"],
        status=row["status"],
        purpose=row["purpose"],
        split=row["split"],
        outcome=row["outcome"],
        model=unpack_text(row["model"]),
        model_hash=row["model_hash"],
        task_id=unpack_optional(row["task_id"]),
        prompt=unpack_text(row["prompt"]),
        answer=unpack_optional(row["answer"]),
        end_reason=row["end_reason"],
        steps=row["steps"],
        calls=row["tool_calls"],
        tools=tools,
        imported=unpack_optional(row["imported"]),
    )
