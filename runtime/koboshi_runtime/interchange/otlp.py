"""Runs as OpenTelemetry traces in OTLP/JSON: a span for the run, one for each turn, one for each call.

A line is what a collector takes at `/v1/traces`, and what its file exporter writes. What people, models and tools said
is left out unless `content` asks for it. Ids are hashes, so that exporting twice gives the same spans. Times are those
of the store; a run that was read from elsewhere has only the time that its record had.

Nothing here sends anything.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from koboshi_tools import ToolVerdict, Transport

from ..records import CallRecord, Outcome, Trajectory, TurnRecord
from ..store import Store
from . import otlp_names as names
from .conversation import split_thought
from .messages import openai_tool

_INTERNAL, _CLIENT = 1, 3
_ERROR = {"code": 2}


@dataclass(frozen=True, slots=True)
class Times:
    """When a run, its turns by index, and its calls by key began and ended: nanoseconds since 1970."""

    run: tuple[int, int]
    turns: Mapping[int, tuple[int, int]]
    calls: Mapping[str, tuple[int, int]]


def times_of(store: Store, trajectory: Trajectory) -> Times:
    """Return the times that the store has for a run."""
    begun = _nanoseconds(trajectory.created_at)
    if trajectory.header.imported:
        return Times((begun, begun), {}, {})
    run_id = (trajectory.run_id,)
    with store.reading() as db:
        ended = db.execute("SELECT ended_at FROM runs WHERE run_id = ?", run_id).fetchone()["ended_at"]
        steps = db.execute("SELECT step_index, created_at, seconds FROM steps WHERE run_id = ?", run_id).fetchall()
        calls = db.execute(
            "SELECT idempotency_key, intent_at, coalesce(result_at, intent_at) AS result_at FROM tool_calls "
            "WHERE run_id = ?",
            run_id,
        ).fetchall()
    turns = {row["step_index"]: _before(_nanoseconds(row["created_at"]), row["seconds"]) for row in steps}
    made = {row["idempotency_key"]: (_nanoseconds(row["intent_at"]), _nanoseconds(row["result_at"])) for row in calls}
    return Times((begun, _nanoseconds(ended) if ended else begun), turns, made)


def otlp_record(trajectory: Trajectory, times: Times, *, content: bool = False) -> dict[str, Any]:
    """Return a run as one export request of OTLP/JSON."""
    spans = [_run(trajectory, times, content=content)]
    for turn in trajectory.turns:
        spans.append(_turn(trajectory, turn, times, content=content))
    for call in trajectory.calls:
        spans.append(_call(trajectory, call, times, content=content))
    service = {names.SERVICE_NAME: "koboshi", names.SERVICE_VERSION: version("koboshi")}
    scope = {"name": "koboshi", "version": version("koboshi")}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(service)},
                "scopeSpans": [{"scope": scope, "spans": spans, "schemaUrl": names.SCHEMA_URL}],
                "schemaUrl": names.SCHEMA_URL,
            }
        ]
    }


def _run(trajectory: Trajectory, times: Times, *, content: bool) -> dict[str, Any]:
    header, end = trajectory.header, trajectory.end
    attributes: dict[str, Any] = {
        names.OPERATION: names.INVOKE_AGENT,
        names.PROVIDER: "koboshi",
        names.AGENT_NAME: header.project,
        names.CONVERSATION_ID: trajectory.run_id,
        names.REQUEST_MODEL: header.model_hash,
        names.REQUEST_SEED: header.seed,
        names.REQUEST_TEMPERATURE: header.temperature,
        names.REQUEST_TOP_P: header.top_p,
        names.PURPOSE: header.purpose.value,
        names.OUTCOME: trajectory.outcome.value,
        names.END_REASON: end.reason.value if end else None,
    }
    if content:
        attributes |= {
            names.SYSTEM_INSTRUCTIONS: _json([{"type": "text", "content": header.system}]) if header.system else None,
            names.INPUT_MESSAGES: _json([_message("user", header.prompt)]),
            names.OUTPUT_MESSAGES: _json([_message("assistant", end.answer)]) if end and end.answer else None,
            names.TOOL_DEFINITIONS: _json([openai_tool(spec) for spec in header.tool_specs]),
        }
    span = _span(trajectory.run_id, "", f"{names.INVOKE_AGENT} {header.project}", _INTERNAL, times.run, attributes)
    events = [_event(outcome, times.run[1], content=content) for outcome in trajectory.outcomes]
    failed = end is not None and end.error is not None
    return {**span, **({"events": events} if events else {}), **({"status": _ERROR} if failed else {})}


def _turn(trajectory: Trajectory, turn: TurnRecord, times: Times, *, content: bool) -> dict[str, Any]:
    reply, model = turn.reply, trajectory.header.model_hash
    attributes: dict[str, Any] = {
        names.OPERATION: names.CHAT,
        names.PROVIDER: "koboshi",
        names.REQUEST_MODEL: model,
        names.INPUT_TOKENS: reply.reused_tokens + reply.decoded_tokens,
        names.CACHED_TOKENS: reply.reused_tokens,
        names.OUTPUT_TOKENS: len(reply.ids),
        names.FINISH_REASONS: [reply.finish.value],
        names.TURN_KIND: turn.kind.value,
    }
    if content:
        attributes[names.OUTPUT_MESSAGES] = _json([_message("assistant", split_thought(reply.text)[0])])
    name = f"{names.CHAT} {model}"
    when = times.turns.get(turn.index, times.run)
    span = _span(trajectory.run_id, f"turn {turn.index}", name, _CLIENT, when, attributes)
    return {**span, "status": _ERROR} if turn.error else span


def _call(trajectory: Trajectory, record: CallRecord, times: Times, *, content: bool) -> dict[str, Any]:
    intent, result = record.intent, record.result
    transport = "in_doubt" if result is None else result.transport.value
    failed = result is None or result.transport is not Transport.OK or result.verdict is ToolVerdict.ERROR
    attributes: dict[str, Any] = {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL_NAME: intent.call.name,
        names.TOOL_TYPE: names.FUNCTION,
        names.TOOL_CALL_ID: intent.idempotency_key,
        names.TRANSPORT: transport,
        names.DECISION: intent.decision.verdict.value,
        names.ERROR_TYPE: (transport if transport != "ok" else "tool_error") if failed else None,
    }
    if content:
        attributes[names.TOOL_ARGUMENTS] = _json(intent.call.arguments)
        attributes[names.TOOL_RESULT] = None if result is None else result.output
    name = f"{names.EXECUTE_TOOL} {intent.call.name}"
    when = times.calls.get(intent.idempotency_key, times.run)
    span = _span(trajectory.run_id, f"call {intent.idempotency_key}", name, _INTERNAL, when, attributes)
    return {**span, "status": _ERROR} if failed else span


def _span(
    run_id: str, part: str, name: str, kind: int, when: tuple[int, int], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a span; the one of the run itself has no `part`, and is the parent of all others."""
    parent = {"parentSpanId": _hex(run_id, 8)} if part else {}
    return {
        "traceId": _hex(f"trace {run_id}", 16),
        "spanId": _hex(f"{run_id} {part}" if part else run_id, 8),
        **parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(when[0]),
        "endTimeUnixNano": str(max(when)),
        "attributes": _attributes(attributes),
    }


def _event(outcome: Outcome, at: int, *, content: bool) -> dict[str, Any]:
    attributes = {
        names.EVALUATION_NAME: outcome.source.value,
        names.EVALUATION_LABEL: outcome.label.value,
        names.EVALUATION_SCORE: outcome.score,
        names.EVALUATION_WHY: outcome.rationale if content and outcome.rationale else None,
    }
    return {"name": names.EVALUATION, "timeUnixNano": str(at), "attributes": _attributes(attributes)}


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: str | int | float | Sequence[str]) -> dict[str, Any]:
    """Return a value as OTLP/JSON writes it: integers of 64 bits are text."""
    if isinstance(value, str):
        return {"stringValue": _unicode(value)}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [_value(each) for each in value]}}


def _unicode(text: str) -> str:
    """Return text that a protocol of Unicode can hold: half a character becomes the replacement character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _hex(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[: 2 * length]


def _nanoseconds(time: str) -> int:
    read = datetime.fromisoformat(time)
    return int(read.timestamp()) * 1_000_000_000 + read.microsecond * 1000


def _before(end: int, seconds: float) -> tuple[int, int]:
    return end - round(seconds * 1e9), end
