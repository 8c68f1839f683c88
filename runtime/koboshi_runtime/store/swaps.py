"""How versions of tools are stored: each move of each version as a row, the calls made in shadow, and what both did.

A move is written only if the version still stands where it was seen, so that two processes cannot both move it.
"""

import sqlite3
from typing import Any, NamedTuple

from koboshi_policies.sequential import Tally
from koboshi_policies.versions import Measured, Stage, Swap, ToolVersion
from koboshi_tools import Tool, ToolResult

from ..ids import utc_now
from ..records import CallIntent
from .codecs import Column, pack_text, unpack_json, unpack_text
from .write import Statement

_LATEST = """
SELECT *, (SELECT who FROM tool_swaps b WHERE (b.project, b.tool, b.began_at) = (s.project, s.tool, s.began_at)
  ORDER BY b.id LIMIT 1) AS begun_by
FROM tool_swaps s WHERE id IN (SELECT max(id) FROM tool_swaps WHERE project = ? GROUP BY tool) ORDER BY tool
"""
# A weak signal judges nobody, and demonstrations are played by a program that knows the answers.
_RUNS = """
SELECT digest, count(*) AS total, sum(label = 'success') AS successes FROM (
  SELECT DISTINCT c.tool_digest AS digest, c.run_id, o.label FROM tool_calls c
  JOIN runs r USING (run_id) JOIN current_outcomes o USING (run_id)
  WHERE c.tool = :tool AND c.tool_digest IN (:old, :new) AND c.intent_at >= :since AND r.project = :project
    AND r.purpose = 'work' AND NOT r.demonstration AND o.label <> 'unknown' AND o.source <> 'weak'
) GROUP BY digest
"""
_CALLS = """
SELECT c.tool_digest AS digest, count(*) AS total,
  sum(c.transport = 'ok' AND c.tool_verdict IS NOT 'error') AS successes
FROM tool_calls c JOIN runs r USING (run_id)
WHERE c.tool = :tool AND c.tool_digest IN (:old, :new) AND c.intent_at >= :since AND r.project = :project
  AND r.purpose = 'work' AND NOT r.demonstration AND c.transport IN ('ok', 'error', 'timeout', 'invalid')
GROUP BY c.tool_digest
"""
_BESIDE = """
SELECT count(*) AS total, total(c.transport = 'ok' AND c.tool_verdict IS NOT 'error') AS old,
  total(s.transport = 'ok' AND s.tool_verdict IS NOT 'error') AS new, total(s.same) AS same
FROM shadow_calls s JOIN tool_calls c USING (call_id) JOIN runs r USING (run_id)
WHERE c.tool = :tool AND s.tool_digest = :new AND c.tool_digest = :old AND c.intent_at >= :since
  AND r.project = :project
"""

_BESIDE_CALLS = """
SELECT c.run_id, c.step_index, c.arguments, d.arguments AS made, s.same,
  c.transport AS old_transport, c.tool_verdict AS old_verdict, c.output AS old_output, c.seconds AS old_seconds,
  s.transport AS new_transport, s.tool_verdict AS new_verdict, s.output AS new_output, s.seconds AS new_seconds
FROM shadow_calls s JOIN tool_calls c USING (call_id) JOIN runs r USING (run_id)
JOIN decisions d ON d.decision_id = (SELECT max(decision_id) FROM decisions WHERE call_id = c.call_id)
WHERE r.project = ? AND c.tool = ? AND c.transport NOT NULL ORDER BY c.call_id DESC
"""


class StoredSwap(NamedTuple):
    """A swap as it stands, why and since when it stands there, when it began and who began it."""

    swap: Swap
    reason: str
    who: str
    moved_at: str
    began_at: str
    begun_by: str


class Compared(NamedTuple):
    """Calls made in shadow: how many, and how many said the same."""

    total: int
    same: int


class BesideCall(NamedTuple):
    """A call that was made on two versions, and what each of them said of it."""

    run_id: str
    step_index: int
    arguments: dict[str, Any]
    old: ToolResult
    new: ToolResult
    same: bool


def put_swap(project: str, swap: Swap, *, seen: Stage | None, began_at: str, reason: str, who: str) -> Statement:
    """Return the statement that moves a version, if its tool still stands at `seen` (None: was never swapped)."""
    columns: dict[str, Column] = {
        "project": pack_text(project),
        "tool": swap.tool,
        "base_digest": swap.base,
        "old_version": swap.old.version,
        "old_digest": swap.old.digest,
        "new_version": swap.new.version,
        "new_digest": swap.new.digest,
        "stage": swap.stage,
        "share": swap.share,
        "reason": pack_text(reason),
        "who": pack_text(who),
        "began_at": began_at,
        "moved_at": utc_now(),
    }
    marks = ", ".join("?" * len(columns))
    stands = "SELECT stage FROM tool_swaps WHERE project = ? AND tool = ? ORDER BY id DESC LIMIT 1"
    return Statement(
        f"INSERT INTO tool_swaps ({', '.join(columns)}) SELECT {marks} WHERE ({stands}) IS ?",
        (*columns.values(), columns["project"], swap.tool, seen),
        must_change=f"The versions of {swap.tool} were moved by another process.",
    )


def put_shadow_call(intent: CallIntent, tool: Tool, result: ToolResult, *, same: bool) -> Statement:
    """Return the statement that keeps what a version in shadow made of a call."""
    columns: dict[str, Column] = {
        "tool_version": tool.version,
        "tool_digest": tool.digest,
        "transport": result.transport,
        "tool_verdict": result.verdict,
        "output": pack_text(result.output),
        "seconds": result.seconds,
        "same": same,
    }
    marks = ", ".join("?" * len(columns))
    return Statement(
        f"INSERT OR REPLACE INTO shadow_calls (call_id, {', '.join(columns)}) "
        f"SELECT call_id, {marks} FROM tool_calls WHERE idempotency_key = ?",
        (*columns.values(), intent.idempotency_key),
    )


def read_swaps(db: sqlite3.Connection, project: str) -> list[StoredSwap]:
    """Return where the tools of a project stand that were ever swapped."""
    return [_swap(row) for row in db.execute(_LATEST, (pack_text(project),))]


def read_measured(db: sqlite3.Connection, project: str, stored: StoredSwap) -> Measured:
    """Return what both versions did since the swap began; in shadow, on the calls that both were given."""
    swap = stored.swap
    asked = _asked(project, stored)
    runs = {row["digest"]: _tally(row) for row in db.execute(_RUNS, asked)}
    if swap.stage is Stage.SHADOW:
        row = db.execute(_BESIDE, asked).fetchone()
        calls = {
            swap.old.digest: Tally(successes=int(row["old"]), total=row["total"]),
            swap.new.digest: Tally(successes=int(row["new"]), total=row["total"]),
        }
    else:
        calls = {row["digest"]: _tally(row) for row in db.execute(_CALLS, asked)}
    return Measured(
        old_runs=runs.get(swap.old.digest, Tally()),
        new_runs=runs.get(swap.new.digest, Tally()),
        old_calls=calls.get(swap.old.digest, Tally()),
        new_calls=calls.get(swap.new.digest, Tally()),
    )


def read_compared(db: sqlite3.Connection, project: str, stored: StoredSwap) -> Compared:
    """Return how many calls were made in shadow since the swap began, and how many said the same."""
    row = db.execute(_BESIDE, _asked(project, stored)).fetchone()
    return Compared(row["total"], int(row["same"]))


def read_beside(db: sqlite3.Connection, project: str, tool: str) -> list[BesideCall]:
    """Return the calls of a tool that were also made in shadow, the newest first."""
    rows = db.execute(_BESIDE_CALLS, (pack_text(project), tool))
    return [
        BesideCall(
            run_id=row["run_id"],
            step_index=row["step_index"],
            arguments=unpack_json(row["arguments"] if row["made"] is None else row["made"]),
            old=_result(row, "old_"),
            new=_result(row, "new_"),
            same=bool(row["same"]),
        )
        for row in rows
    ]


def read_wished(db: sqlite3.Connection, project: str) -> set[tuple[str, str]]:
    """Return which versions were ever swapped in, as tool and digest."""
    rows = db.execute("SELECT DISTINCT tool, new_digest FROM tool_swaps WHERE project = ?", (pack_text(project),))
    return {(row["tool"], row["new_digest"]) for row in rows}


def _result(row: sqlite3.Row, prefix: str) -> ToolResult:
    return ToolResult(
        transport=row[f"{prefix}transport"],
        output=unpack_text(row[f"{prefix}output"]),
        verdict=row[f"{prefix}verdict"],
        seconds=row[f"{prefix}seconds"],
    )


def _asked(project: str, stored: StoredSwap) -> dict[str, Column]:
    swap = stored.swap
    versions: dict[str, Column] = {"old": swap.old.digest, "new": swap.new.digest}
    return {"project": pack_text(project), "tool": swap.tool, "since": stored.began_at} | versions


def _tally(row: sqlite3.Row) -> Tally:
    return Tally(successes=row["successes"], total=row["total"])


def _swap(row: sqlite3.Row) -> StoredSwap:
    swap = Swap(
        tool=row["tool"],
        base=row["base_digest"],
        old=ToolVersion(version=row["old_version"], digest=row["old_digest"]),
        new=ToolVersion(version=row["new_version"], digest=row["new_digest"]),
        stage=row["stage"],
        share=row["share"],
    )
    reason, who, begun_by = (unpack_text(row[name]) for name in ("reason", "who", "begun_by"))
    return StoredSwap(swap, reason, who, row["moved_at"], row["began_at"], begun_by)
