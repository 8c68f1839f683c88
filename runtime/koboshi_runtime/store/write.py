"""What each recorded value becomes in SQL.

Functions here compute statements and do no I/O: they run in the caller's thread, so that the write lock is held for
nothing but the statements themselves. A statement with `must_change` fails its whole unit if it changed no row; that
is how the store enforces the life of a run and that a call has one result.

No text is packed with a secret that we know (`redact`). A reply or a stretch of prompt that held one is stored without
its ids, and its run is marked.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koboshi_policies import Decision
from koboshi_tools import ToolResult, hash_bytes

from ..ids import prompt_hash, utc_now
from ..model import PromptProfile, Reply
from ..records import CallIntent, Outcome, RunEnd, RunHeader, RunStatus, Segment, TurnRecord
from ..redact import redactor
from .codecs import (
    Column,
    pack_bits,
    pack_ids,
    pack_json,
    pack_logprobs,
    pack_optional,
    pack_redacted,
    pack_text,
    segment_hash,
)
from .owner import this_process

TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    # A run whose process died is still `running` when it is taken up again.
    RunStatus.RUNNING: frozenset(RunStatus),
    RunStatus.INTERRUPTED: frozenset({RunStatus.RUNNING, RunStatus.FAILED}),
    RunStatus.FINISHED: frozenset(),
    RunStatus.FAILED: frozenset(),
}
"""Which status may follow which."""

ENDED = (RunStatus.FINISHED, RunStatus.FAILED)
"""The statuses that nothing follows: thread state is dropped, and no more is kept."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement; `must_change` is the error raised if it changed no row."""

    sql: str
    values: tuple[Column, ...]
    must_change: str | None = None


def insert(table: str, columns: Mapping[str, Column], *, conflict: str = "") -> Statement:
    """Return the statement that inserts one row."""
    marks = ", ".join("?" * len(columns))
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {conflict}"
    return Statement(sql.rstrip(), tuple(columns.values()))


def start_run(run_id: str, header: RunHeader, *, created_at: str | None = None) -> list[Statement]:
    """Return the statements that open a run, owned by this process; runs of a project share what they were told.

    `created_at` is when it was made, ISO 8601 in UTC, where that is not now.
    """
    history = [remark.model_dump(mode="json") for remark in header.history]
    specs = pack_json([spec.model_dump(mode="json") for spec in header.tool_specs])
    system = pack_text(header.system)
    offer: dict[str, Column] = {"offer_hash": _offer_hash(system, specs), "system": system, "tool_specs": specs}
    columns: dict[str, Column] = {
        "run_id": run_id,
        "created_at": created_at or utc_now(),
        "status": RunStatus.RUNNING,
        "owner": this_process(),
        "purpose": header.purpose,
        "split": header.split,
        "prompt": pack_text(header.prompt),
        "prompt_hash": prompt_hash(header.prompt),
        "task_id": pack_optional(header.task_id),
        "task": None if header.task is None else pack_json(header.task),
        "model_hash": header.model_hash,
        "profile": pack_json(header.profile.model_dump(mode="json")),
        "condition": pack_optional(header.condition),
        "policy_hash": header.policy_hash,
        "project": pack_text(header.project),
        "tools": pack_json(header.tools),
        "offer_hash": offer["offer_hash"],
        "seed": header.seed,
        "temperature": header.temperature,
        "top_p": header.top_p,
        "guidance": header.guidance,
        "sample": header.sample,
        "parent_run_id": header.parent_run_id,
        "forked_at": header.forked_at,
        "demonstration": header.demonstration,
        "imported": pack_optional(header.imported),
        "history": pack_json(history) if history else None,
        "redacted": redactor().finds(
            [header.prompt, header.system, header.task, [s.parameters for s in header.tool_specs], history]
        ),
    }
    return [
        insert("offers", offer, conflict="ON CONFLICT (offer_hash) DO NOTHING"),
        insert("runs", columns),
        *(
            insert("run_versions", {"run_id": run_id, "tool": pack_text(tool), "tool_digest": digest})
            for tool, digest in header.versions.items()
        ),
    ]


def _offer_hash(*texts: str | bytes) -> str:
    parts = [text.encode() if isinstance(text, str) else text for text in texts]
    return hash_bytes(b"".join(len(part).to_bytes(8, "little") + part for part in parts))


def mark_redacted(run_id: str) -> Statement:
    """Return the statement that says of a run that something of it is not stored."""
    return Statement("UPDATE runs SET redacted = 1 WHERE run_id = ? AND NOT redacted", (run_id,))


def add_turn(run_id: str, turn: TurnRecord) -> list[Statement]:
    """Return the statements that add a step and its new segments."""
    text = redactor().text(turn.reply.text)
    reply, hidden = (turn.reply, False) if text == turn.reply.text else (_without_ids(turn.reply, text), True)
    columns: dict[str, Column] = {
        "run_id": run_id,
        "step_index": turn.index,
        "kind": turn.kind,
        "reply": pack_redacted(reply.text),
        "error": pack_optional(turn.error),
        "in_context": turn.in_context,
        "finish": reply.finish,
        "reply_ids": pack_ids(reply.ids),
        "sampled": pack_bits(reply.sampled),
        "raw_logprobs": pack_logprobs(reply.raw_logprobs),
        "behaviour_logprobs": pack_logprobs(reply.behaviour_logprobs),
        "reply_tokens": len(reply.ids),
        "mean_logprob": _mean_logprob(reply),
        "reused_tokens": reply.reused_tokens,
        "decoded_tokens": reply.decoded_tokens,
        "seconds": reply.seconds,
        "created_at": utc_now(),
    }
    statements = [insert("steps", columns)]
    for position, segment in enumerate(turn.segments):
        text = redactor().text(segment.text)
        if text != segment.text:
            segment, hidden = segment.model_copy(update={"text": text, "ids": ()}), True
        statements += _add_segment(run_id, turn.index, position, segment)
    return [*statements, mark_redacted(run_id)] if hidden else statements


def _without_ids(reply: Reply, text: str) -> Reply:
    gone: dict[str, Any] = dict.fromkeys(("ids", "sampled", "raw_logprobs", "behaviour_logprobs"), ())
    return reply.model_copy(update={**gone, "text": text})


def _mean_logprob(reply: Reply) -> float | None:
    drawn = [value for value, sampled in zip(reply.behaviour_logprobs, reply.sampled, strict=True) if sampled]
    mean = sum(drawn) / len(drawn) if drawn else math.nan
    return mean if math.isfinite(mean) else None


def _add_segment(run_id: str, step_index: int, position: int, segment: Segment) -> list[Statement]:
    name = segment_hash(segment.ids, segment.text)
    content: dict[str, Column] = {"hash": name, "text": pack_redacted(segment.text), "ids": pack_ids(segment.ids)}
    use = Statement(
        "INSERT INTO step_segments (run_id, step_index, position, kind, segment_id) "
        "SELECT ?, ?, ?, ?, segment_id FROM segments WHERE hash = ?",
        (run_id, step_index, position, segment.kind, name),
    )
    return [insert("segments", content, conflict="ON CONFLICT (hash) DO NOTHING"), use]


def add_intent(run_id: str, intent: CallIntent) -> list[Statement]:
    """Return the statements that record a call before it is made, and the decision on it.

    An intent whose key is known is the same call met again (after a crash or an approval): only its decision is added.
    """
    decision = intent.decision
    columns: dict[str, Column] = {
        "run_id": run_id,
        "step_index": intent.step_index,
        "call_index": intent.call_index,
        "tool": pack_text(intent.call.name),
        "arguments": pack_json(intent.call.arguments),
        "tool_version": intent.tool_version,
        "tool_digest": intent.tool_digest,
        "effect": intent.effect,
        "idempotent": intent.idempotent,
        "idempotency_key": intent.idempotency_key,
        "intent_at": utc_now(),
    }
    statements = [insert("tool_calls", columns, conflict="ON CONFLICT (idempotency_key) DO NOTHING")]
    if redactor().finds([intent.call.arguments, intent.decision.arguments]):
        statements.append(mark_redacted(run_id))
    statements.append(_decided("decisions", run_id, intent, {**_decision(intent.decision), "asked": decision.asked}))
    if intent.shadow is not None:
        statements.append(_decided("shadow_decisions", run_id, intent, _decision(intent.shadow)))
    return statements


def _decision(decision: Decision) -> dict[str, Column]:
    return {
        "verdict": decision.verdict,
        "reason": pack_text(decision.reason),
        "rule": pack_optional(decision.rule),
        "file": pack_optional(decision.file),
        "line": decision.line,
        "layer": pack_optional(decision.layer),
        "arguments": None if decision.arguments is None else pack_json(decision.arguments),
        "decided_at": utc_now(),
    }


def _decided(table: str, run_id: str, intent: CallIntent, columns: Mapping[str, Column]) -> Statement:
    marks = ", ".join("?" * len(columns))
    return Statement(
        f"INSERT OR REPLACE INTO {table} (call_id, {', '.join(columns)}) "
        f"SELECT call_id, {marks} FROM tool_calls WHERE idempotency_key = ? AND run_id = ?",
        (*columns.values(), intent.idempotency_key, run_id),
        must_change=f"The idempotency key {intent.idempotency_key} belongs to a call of another run.",
    )


def add_result(idempotency_key: str, result: ToolResult) -> list[Statement]:
    """Return the statements that give a call its one result."""
    output = redactor().text(result.output)
    statements = [
        Statement(
            "UPDATE tool_calls SET transport = ?, tool_verdict = ?, output = ?, seconds = ?, truncated = ?, "
            "result_at = ? WHERE idempotency_key = ? AND transport IS NULL",
            (
                *(result.transport, result.verdict, pack_redacted(output), result.seconds, result.truncated),
                *(utc_now(), idempotency_key),
            ),
            must_change=f"The call {idempotency_key} is not recorded, or it already has a result.",
        )
    ]
    if output != result.output:
        of_call = "(SELECT run_id FROM tool_calls WHERE idempotency_key = ?)"
        statements.append(Statement(f"UPDATE runs SET redacted = 1 WHERE run_id = {of_call}", (idempotency_key,)))
    return statements


def change_status(run_id: str, status: RunStatus) -> list[Statement]:
    """Return the statements that move a run to `status`; running again forgets how it ended before."""
    sources = [source for source, targets in TRANSITIONS.items() if status in targets]
    marks = ", ".join("?" * len(sources))
    running = status is RunStatus.RUNNING
    clear = ", end_reason = NULL, answer = NULL, error = NULL, ended_at = NULL" if running else ""
    move = Statement(
        f"UPDATE runs SET status = ?, owner = ?{clear} WHERE run_id = ? AND status IN ({marks})",
        (status, this_process() if running else None, run_id, *sources),
        must_change=f"Run {run_id} cannot become {status}: it is not recorded, or it has already ended.",
    )
    drop = Statement("DELETE FROM thread_state WHERE run_id = ?", (run_id,))
    return [move, drop] if status in ENDED else [move]


def end_run(run_id: str, end: RunEnd) -> list[Statement]:
    """Return the statements that close a run and drop its thread state."""
    closing = Statement(
        "UPDATE runs SET end_reason = ?, answer = ?, error = ?, ended_at = ? WHERE run_id = ?",
        (end.reason, pack_optional(end.answer), pack_optional(end.error), utc_now(), run_id),
    )
    return [*change_status(run_id, end.status), closing]


def claim_run(run_id: str, seen_owner: str | None) -> list[Statement]:
    """Return the statement that takes up a run whose owner is still the one that was seen, and dead."""
    return [
        Statement(
            "UPDATE runs SET owner = ?, status = 'running' WHERE run_id = ? AND owner IS ? "
            "AND status IN ('running', 'interrupted')",
            (this_process(), run_id, seen_owner),
            must_change=f"Run {run_id} was taken up by another process.",
        )
    ]


def add_outcome(run_id: str, outcome: Outcome) -> list[Statement]:
    """Return the statement that appends a label to a run."""
    columns: dict[str, Column] = {
        "run_id": run_id,
        "label": outcome.label,
        "source": outcome.source,
        "who": pack_text(outcome.who),
        "rationale": pack_text(outcome.rationale),
        "score": outcome.score,
        "created_at": utc_now(),
    }
    return [insert("outcomes", columns)]


def take_back_label(run_id: str, who: str) -> list[Statement]:
    """Return the statement that takes back the last standing label that a person gave a run; both stay stored."""
    return [
        Statement(
            "INSERT INTO retractions SELECT max(outcome_id), ?, ? FROM standing_outcomes "
            "WHERE run_id = ? AND source = 'person' HAVING max(outcome_id) NOT NULL",
            (pack_text(who), utc_now(), run_id),
            must_change=f"No person's label of run {run_id} stands.",
        )
    ]


def keep_thread_state(run_id: str, state: bytes) -> list[Statement]:
    """Return the statement that keeps the latest thread state of a run that has not ended."""
    return [
        Statement(
            "INSERT INTO thread_state (run_id, state, updated_at) SELECT run_id, ?, ? FROM runs "
            "WHERE run_id = ? AND status NOT IN ('finished', 'failed') "
            "ON CONFLICT (run_id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
            (state, utc_now(), run_id),
        )
    ]


def put_model(
    model_hash: str, *, name: str, profile: PromptProfile, manifest: Mapping[str, Any], state: str
) -> list[Statement]:
    """Return the statement that records a model, or what changed of one that is known."""
    columns: dict[str, Column] = {
        "model_hash": model_hash,
        "name": pack_text(name),
        "profile": pack_json(profile.model_dump(mode="json")),
        "manifest": pack_json(manifest),
        "state": state,
        "created_at": utc_now(),
        "updated_at": utc_now(),
    }
    kept = ("name", "profile", "manifest", "state", "updated_at")
    changes = ", ".join(f"{column} = excluded.{column}" for column in kept)
    return [insert("models", columns, conflict=f"ON CONFLICT (model_hash) DO UPDATE SET {changes}")]


def put_job(job_id: str, kind: str, manifest: Mapping[str, Any]) -> list[Statement]:
    """Return the statement that opens a job."""
    columns: dict[str, Column] = {
        "job_id": job_id,
        "kind": kind,
        "status": "running",
        "manifest": pack_json(manifest),
        "started_at": utc_now(),
    }
    return [insert("jobs", columns)]


def close_job(job_id: str, status: str, result: Mapping[str, Any] | None) -> list[Statement]:
    """Return the statement that closes a job that runs."""
    return [
        Statement(
            "UPDATE jobs SET status = ?, result = ?, finished_at = ? WHERE job_id = ? AND status = 'running'",
            (status, None if result is None else pack_json(result), utc_now(), job_id),
            must_change=f"Job {job_id} is not recorded, or it has already ended.",
        )
    ]


def put_task(prompt: str, split: str, given_by: str) -> list[Statement]:
    """Return the statement that gives a prompt its split, unless it has one."""
    columns: dict[str, Column] = {
        "prompt_hash": prompt_hash(prompt),
        "prompt": pack_text(prompt),
        "split": split,
        "given_by": given_by,
        "first_seen_at": utc_now(),
    }
    return [insert("tasks", columns, conflict="ON CONFLICT (prompt_hash) DO NOTHING")]
