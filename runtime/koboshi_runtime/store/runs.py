"""Lists of runs, page by page: which runs a filter describes, the newest first.

A page costs the same in a store of a hundred runs and of a hundred thousand. Which runs are on it is read from a
narrow index in the order of writing, with one look at the verdict and at the tools of each; only the runs of the page
are read whole. A text is looked up in the full-text indexes, the newest places first, and `hits` bounds how many.

Functions here take an open read-only connection with `sqlite3.Row` rows.
"""

import json
import sqlite3
from typing import NamedTuple

from .codecs import Column, unpack_optional, unpack_text
from .rows import RunFilter, RunRow

_CONDITIONS = {
    "purpose": "r.purpose = :purpose",
    "split": "r.split = :split",
    "status": "r.status = :status",
    "outcome": "coalesce((SELECT v.label FROM verdicts v WHERE v.id = r.id), 'unknown') = :outcome",
    "model": "r.model_hash IN (SELECT :model UNION SELECT model_hash FROM models WHERE name = :model)",
    "task_id": "r.task_id = :task_id",
    "tool": "EXISTS (SELECT 1 FROM run_tools t WHERE t.tool = :tool AND t.id = r.id)",
    "project": "r.project = :project",
    "text": "r.id IN (SELECT value FROM json_each(:found))",
    "since": "r.created_at >= :since",
    "fork_of": "r.parent_run_id = :fork_of AND r.forked_at IS NOT NULL",
    "imported": "(r.imported IS NOT NULL) = :imported",
    "before": "r.id < (SELECT id FROM runs WHERE run_id = :before)",
    "after": "r.id > (SELECT id FROM runs WHERE run_id = :after)",
}

_ROWS = """
SELECT r.*, coalesce(m.name, r.model_hash) AS model,
  coalesce((SELECT v.label FROM verdicts v WHERE v.id = r.id), 'unknown') AS outcome,
  (SELECT count(*) FROM steps s WHERE s.run_id = r.run_id) AS steps,
  (SELECT count(*) FROM tool_calls c WHERE c.run_id = r.run_id) AS tool_calls
FROM (SELECT r.id FROM runs r WHERE {conditions} ORDER BY r.id DESC LIMIT :limit) page
JOIN runs r USING (id) LEFT JOIN models m USING (model_hash) ORDER BY r.id DESC
"""

_PLACES = (
    "SELECT rowid AS id FROM runs_fts WHERE runs_fts MATCH :text ORDER BY rowid DESC LIMIT :hits",
    """SELECT r.id FROM (SELECT rowid AS step_id FROM steps_fts WHERE steps_fts MATCH :text
    ORDER BY rowid DESC LIMIT :hits) JOIN steps USING (step_id) JOIN runs r USING (run_id)""",
    """SELECT r.id FROM (SELECT rowid AS call_id FROM tool_calls_fts WHERE tool_calls_fts MATCH :text
    ORDER BY rowid DESC LIMIT :hits) JOIN tool_calls USING (call_id) JOIN runs r USING (run_id)""",
)


class RunPage(NamedTuple):
    """Rows of a list; `whole` is False where a text was looked up in its newest places only."""

    rows: list[RunRow]
    whole: bool


def quote_words(text: str) -> str:
    """Return an FTS5 query for all words of `text`, each taken literally."""
    return " ".join(f'"{word.replace(chr(34), chr(34) * 2)}"' for word in text.replace("\0", " ").split())


def list_runs(db: sqlite3.Connection, wanted: RunFilter, hits: int | None = None) -> RunPage:
    """Return the runs that `wanted` describes, the newest first.

    `hits` is in how many places, the newest ones, a text is looked up in each full-text index; None in all.
    """
    values: dict[str, Column] = {k: v for k, v in wanted.model_dump().items() if v is not None}
    conditions = [condition for name, condition in _CONDITIONS.items() if name in values]
    whole = True
    if wanted.text is not None:
        found, whole = _found(db, wanted.text, hits)
        values["found"] = json.dumps(sorted(found))
    rows = db.execute(_ROWS.format(conditions=" AND ".join(conditions) or "1"), {**values, "limit": wanted.limit or -1})
    return RunPage([_run_row(row, tools_of(db, row["run_id"])) for row in rows], whole)


def tools_of(db: sqlite3.Connection, run_id: str) -> tuple[str, ...]:
    """Return the tools that a run called, each once, in the order of their first calls."""
    rows = db.execute("SELECT tool FROM tool_calls WHERE run_id = ? GROUP BY tool ORDER BY min(call_id)", (run_id,))
    return tuple(unpack_text(row["tool"]) for row in rows)


def list_tools(db: sqlite3.Connection) -> tuple[str, ...]:
    """Return the names of all tools that were ever called."""
    return tuple(unpack_text(row["tool"]) for row in db.execute("SELECT DISTINCT tool FROM run_tools ORDER BY tool"))


def _found(db: sqlite3.Connection, text: str, hits: int | None) -> tuple[set[int], bool]:
    asked: dict[str, Column] = {"text": quote_words(text), "hits": -1 if hits is None else hits}
    found = [[row["id"] for row in db.execute(sql, asked)] for sql in _PLACES]
    return {run for place in found for run in place}, hits is None or all(len(place) < hits for place in found)


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
