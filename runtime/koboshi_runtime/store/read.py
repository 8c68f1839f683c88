"""From rows back to the values that were recorded.

Functions here take an open read-only connection with `sqlite3.Row` rows and are given one snapshot for as long as
they run. What was recorded comes back equal, but for log-probabilities, which are rounded to float16.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any

from koboshi_policies import Decision
from koboshi_tools import ToolCall, ToolResult, ToolSpec

from ..model import PromptProfile, Reply
from ..records import CallIntent, CallRecord, Outcome, RunEnd, RunHeader, Segment, Trajectory, TurnRecord
from .codecs import unpack_bits, unpack_ids, unpack_json, unpack_logprobs, unpack_optional, unpack_text

Segments = dict[int, tuple[str, tuple[int, ...]]]
"""Segments already decoded, by their id: text and ids."""

_CALLS = """
SELECT c.*, d.verdict, d.reason, d.rule, d.file, d.line, d.layer, d.arguments AS made_arguments, d.asked,
  s.verdict AS shadow_verdict, s.reason AS shadow_reason, s.rule AS shadow_rule, s.file AS shadow_file,
  s.line AS shadow_line, s.layer AS shadow_layer, s.arguments AS shadow_made_arguments, NULL AS shadow_asked
FROM tool_calls c JOIN decisions d ON d.decision_id = (SELECT max(decision_id) FROM decisions WHERE call_id = c.call_id)
LEFT JOIN shadow_decisions s ON s.call_id = c.call_id
"""


def read_trajectory(db: sqlite3.Connection, run_id: str, segments: Segments) -> Trajectory | None:
    """Return the stored record of a run, or None; `segments` is a cache that the caller may share between runs."""
    row = db.execute("SELECT * FROM runs JOIN offers USING (offer_hash) WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return None
    return Trajectory(
        run_id=run_id,
        created_at=row["created_at"],
        header=_header(row, _versions(db, run_id)),
        turns=_turns(db, run_id, segments),
        calls=tuple(_call(call) for call in read_calls(db, run_id)),
        outcomes=_outcomes(db, run_id),
        end=_end(row),
        redacted=bool(row["redacted"]),
    )


def read_calls(db: sqlite3.Connection, run_id: str) -> list[sqlite3.Row]:
    """Return the rows of a run's calls with the last decision on each, in order."""
    return db.execute(f"{_CALLS} WHERE c.run_id = ? ORDER BY c.step_index, c.call_index", (run_id,)).fetchall()


def read_in_doubt(db: sqlite3.Connection, run_id: str) -> list[CallIntent]:
    """Return the calls of a run that have no result, in order."""
    return [_intent(row) for row in read_calls(db, run_id) if row["transport"] is None]


def read_result(db: sqlite3.Connection, idempotency_key: str) -> ToolResult | None:
    """Return what came of a call, or None if it has no result or is not recorded."""
    row = db.execute("SELECT * FROM tool_calls WHERE idempotency_key = ?", (idempotency_key,)).fetchone()
    return None if row is None else _result(row)


def _versions(db: sqlite3.Connection, run_id: str) -> dict[str, str]:
    rows = db.execute("SELECT tool, tool_digest FROM run_versions WHERE run_id = ?", (run_id,))
    return {unpack_text(row["tool"]): row["tool_digest"] for row in rows}


def _header(row: sqlite3.Row, versions: dict[str, str]) -> RunHeader:
    return RunHeader(
        prompt=unpack_text(row["prompt"]),
        purpose=row["purpose"],
        split=row["split"],
        model_hash=row["model_hash"],
        profile=PromptProfile(**unpack_json(row["profile"])),
        condition=unpack_optional(row["condition"]),
        policy_hash=row["policy_hash"],
        project=unpack_text(row["project"]),
        seed=row["seed"],
        temperature=row["temperature"],
        top_p=row["top_p"],
        guidance=row["guidance"],
        task_id=unpack_optional(row["task_id"]),
        task=None if row["task"] is None else unpack_json(row["task"]),
        tools=tuple(unpack_json(row["tools"])),
        sample=row["sample"],
        parent_run_id=row["parent_run_id"],
        forked_at=row["forked_at"],
        demonstration=bool(row["demonstration"]),
        versions=versions,
        imported=unpack_optional(row["imported"]),
        history=() if row["history"] is None else tuple(unpack_json(row["history"])),
        system=unpack_text(row["system"]),
        tool_specs=tuple(ToolSpec(**spec) for spec in unpack_json(row["tool_specs"])),
    )


def _turns(db: sqlite3.Connection, run_id: str, segments: Segments) -> tuple[TurnRecord, ...]:
    uses: dict[int, list[Segment]] = {}
    for use in db.execute("SELECT * FROM step_segments WHERE run_id = ? ORDER BY step_index, position", (run_id,)):
        text, ids = _segment(db, use["segment_id"], segments)
        uses.setdefault(use["step_index"], []).append(Segment(kind=use["kind"], ids=ids, text=text))
    rows = db.execute("SELECT * FROM steps WHERE run_id = ? ORDER BY step_index", (run_id,))
    return tuple(_turn(row, uses.get(row["step_index"], ())) for row in rows)


def _segment(db: sqlite3.Connection, segment_id: int, segments: Segments) -> tuple[str, tuple[int, ...]]:
    if segment_id not in segments:
        row = db.execute("SELECT text, ids FROM segments WHERE segment_id = ?", (segment_id,)).fetchone()
        segments[segment_id] = unpack_text(row["text"]), unpack_ids(row["ids"])
    return segments[segment_id]


def _turn(row: sqlite3.Row, segments: Iterable[Segment]) -> TurnRecord:
    ids = unpack_ids(row["reply_ids"])
    reply = Reply(
        ids=ids,
        sampled=unpack_bits(row["sampled"], len(ids)),
        raw_logprobs=unpack_logprobs(row["raw_logprobs"]),
        behaviour_logprobs=unpack_logprobs(row["behaviour_logprobs"]),
        text=unpack_text(row["reply"]),
        finish=row["finish"],
        reused_tokens=row["reused_tokens"],
        decoded_tokens=row["decoded_tokens"],
        seconds=row["seconds"],
    )
    return TurnRecord(
        index=row["step_index"],
        segments=tuple(segments),
        reply=reply,
        kind=row["kind"],
        error=unpack_optional(row["error"]),
        in_context=bool(row["in_context"]),
    )


def _call(row: sqlite3.Row) -> CallRecord:
    return CallRecord(intent=_intent(row), result=_result(row))


def _intent(row: sqlite3.Row) -> CallIntent:
    return CallIntent(
        step_index=row["step_index"],
        call_index=row["call_index"],
        call=ToolCall(name=unpack_text(row["tool"]), arguments=unpack_json(row["arguments"])),
        decision=read_decision(row),
        tool_version=row["tool_version"],
        tool_digest=row["tool_digest"],
        effect=row["effect"],
        idempotent=bool(row["idempotent"]),
        idempotency_key=row["idempotency_key"],
        shadow=None if row["shadow_verdict"] is None else read_decision(row, "shadow_"),
    )


def read_decision(row: sqlite3.Row, prefix: str = "") -> Decision:
    """Return the decision in the columns of a call's row that begin with `prefix`."""
    changed = row[f"{prefix}made_arguments"]
    return Decision(
        verdict=row[f"{prefix}verdict"],
        reason=unpack_text(row[f"{prefix}reason"]),
        rule=unpack_optional(row[f"{prefix}rule"]),
        file=unpack_optional(row[f"{prefix}file"]),
        line=row[f"{prefix}line"],
        layer=unpack_optional(row[f"{prefix}layer"]),
        arguments=None if changed is None else unpack_json(changed),
        asked=row[f"{prefix}asked"],
    )


def _result(row: sqlite3.Row) -> ToolResult | None:
    if row["transport"] is None:
        return None
    return ToolResult(
        transport=row["transport"],
        output=unpack_text(row["output"]),
        verdict=row["tool_verdict"],
        seconds=row["seconds"],
        truncated=bool(row["truncated"]),
    )


def _outcomes(db: sqlite3.Connection, run_id: str) -> tuple[Outcome, ...]:
    rows = db.execute("SELECT * FROM standing_outcomes WHERE run_id = ? ORDER BY outcome_id", (run_id,))
    return tuple(_outcome(row) for row in rows)


def _outcome(row: sqlite3.Row) -> Outcome:
    values: dict[str, Any] = {"who": unpack_text(row["who"]), "rationale": unpack_text(row["rationale"])}
    return Outcome(label=row["label"], source=row["source"], score=row["score"], **values)


def _end(row: sqlite3.Row) -> RunEnd | None:
    if row["end_reason"] is None:
        return None
    answer, error = unpack_optional(row["answer"]), unpack_optional(row["error"])
    return RunEnd(status=row["status"], reason=row["end_reason"], answer=answer, error=error)
