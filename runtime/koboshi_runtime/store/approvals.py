"""How questions about calls are stored: one row a question, answered once and used once."""

import sqlite3
from typing import Any

from koboshi_policies import Answer

from ..ids import utc_now
from ..records import CallIntent
from .codecs import Column, pack_json, pack_text, unpack_json, unpack_optional, unpack_text
from .write import Statement

_KEPT = ("approval_id", "run_id", "tool_version", "policy_hash", "asked_at", "expires_at", "answer", "answered_at")


def ask_question(
    approval_id: str,
    run_id: str,
    intent: CallIntent,
    *,
    policy_hash: str,
    call_hash: str,
    attended: bool,
    expires_at: str,
) -> tuple[Statement, ...]:
    """Return the statement that puts a question, unless the same is open: of this run, or unattended of any."""
    columns: dict[str, Column] = {
        "approval_id": approval_id,
        "call_hash": call_hash,
        "idempotency_key": intent.idempotency_key,
        "run_id": run_id,
        "tool": pack_text(intent.call.name),
        "arguments": pack_json(intent.made.arguments),
        "tool_version": intent.tool_version,
        "policy_hash": policy_hash,
        "reason": pack_text(intent.decision.reason),
        "attended": attended,
        "asked_at": utc_now(),
        "expires_at": expires_at,
    }
    marks = ", ".join("?" * len(columns))
    unless = (
        "SELECT 1 FROM approvals WHERE call_hash = ? AND used_by IS NULL AND expires_at > ? "
        "AND answer IS NOT 'refused' AND attended = ? AND (run_id = ? OR NOT attended)"
    )
    sql = f"INSERT INTO approvals ({', '.join(columns)}) SELECT {marks} WHERE NOT EXISTS ({unless})"
    return (Statement(sql, (*columns.values(), call_hash, utc_now(), attended, run_id)),)


def answer_question(approval_id: str, answer: Answer, *, who: str, why: str) -> tuple[Statement, ...]:
    """Return the statement that answers an open question."""
    now = utc_now()
    return (
        Statement(
            "UPDATE approvals SET answer = ?, who = ?, why = ?, answered_at = ? "
            "WHERE approval_id = ? AND answer IS NULL AND expires_at > ?",
            (answer, pack_text(who), pack_text(why), now, approval_id, now),
            must_change=f"The question {approval_id} is not open: it has its answer, or it has expired.",
        ),
    )


def use_approval(approval_id: str, idempotency_key: str) -> tuple[Statement, ...]:
    """Return the statement that uses an approval up for one call."""
    return (
        Statement(
            "UPDATE approvals SET used_by = ? WHERE approval_id = ? AND answer = 'approved' AND expires_at > ? "
            "AND used_by IS NULL",
            (idempotency_key, approval_id, utc_now()),
            must_change=f"The approval {approval_id} was used, refused, or has expired.",
        ),
    )


def read_approvals(
    db: sqlite3.Connection, call_hash: str | None = None, *, open_at: str | None = None
) -> list[dict[str, Any]]:
    """Return the questions about one call, or all, the newest first; with `open_at` those without an answer then."""
    conditions = {"call_hash = ?": call_hash, "answer IS NULL AND expires_at > ?": open_at}
    asked = {condition: value for condition, value in conditions.items() if value is not None}
    where = " AND ".join(asked) or "1"
    rows = db.execute(f"SELECT * FROM approvals WHERE {where} ORDER BY id DESC", tuple(asked.values()))
    return [_values(row) for row in rows]


def _values(row: sqlite3.Row) -> dict[str, Any]:
    call = {"name": unpack_text(row["tool"]), "arguments": unpack_json(row["arguments"])}
    texts = {name: unpack_optional(row[name]) for name in ("reason", "who", "why", "used_by")}
    return {name: row[name] for name in _KEPT} | texts | {"call": call, "attended": bool(row["attended"])}
