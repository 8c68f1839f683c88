"""A run as a person reads it: its steps with prompt, reply, calls, decisions, results and outcomes, as indented lines.

Everything a model, tool or task wrote goes through `plain`, so that a line can neither move the cursor nor forge
another line.
"""

from collections.abc import Iterable

from koboshi_policies.decision import Decision
from koboshi_tools import canonical_json

from ..ids import SHORT_ID
from ..records import CallRecord, Trajectory, TurnRecord
from ..reuse import prompt_reuse, reuse_line
from ..store.rows import QueueRow, RunRow, SearchHit
from ..text import plain

_MAX_LINES = 40
"""Lines of one text that are shown; a tool's output may have millions."""

_SHOWN = 60
"""Characters of a prompt or excerpt that a table shows."""

RUN_COLUMNS = ("run", "time", "purpose", "outcome", "steps", "tools", "prompt")
HIT_COLUMNS = ("run", "step", "where", "excerpt")
QUEUE_COLUMNS = ("run", "time", "score", "why", "prompt", "answer")


def run_cells(row: RunRow) -> tuple[str, ...]:
    """Return a run under `RUN_COLUMNS`, safe to print."""
    outcome = row.outcome if row.end_reason else row.status
    tools = plain(", ".join(row.tools), width=_SHOWN)
    purpose = f"{row.purpose}, imported" if row.imported else row.purpose
    return (_short(row.run_id), _time(row.created_at), purpose, outcome, str(row.steps), tools, _cell(row.prompt))


def hit_cells(hit: SearchHit) -> tuple[str, ...]:
    """Return a place where a text was found under `HIT_COLUMNS`, safe to print."""
    return _short(hit.run_id), "" if hit.step_index is None else str(hit.step_index), hit.where, plain(hit.excerpt)


def queue_cells(row: QueueRow) -> tuple[str, ...]:
    """Return an unlabelled run under `QUEUE_COLUMNS`, safe to print."""
    why = plain("; ".join(row.reasons[:2]))
    return (
        _short(row.run_id),
        _time(row.created_at),
        f"{row.score:.2f}",
        why,
        _cell(row.prompt),
        _cell(row.answer or ""),
    )


def run_lines(trajectory: Trajectory, *, full: bool = False) -> list[str]:
    """Return the lines that show a run; long texts are cut to 40 lines unless `full`."""
    header = trajectory.header
    lines = [
        f"run {trajectory.run_id}  {trajectory.created_at}{_origin(header.imported)}",
        f"  {header.purpose} · {header.split} · {trajectory.outcome} · model {short_hash(header.model_hash)} · "
        f"seed {header.seed} · temperature {header.temperature:g}"
        + (f" · guidance {header.guidance:g}" if header.guidance else ""),
        *(
            []
            if header.forked_at is None
            else [f"  forked from {header.parent_run_id} behind {_turns(header.forked_at)}"]
        ),
        f"  {reuse_line(prompt_reuse(trajectory.turns))}",
        "  prompt",
        *_text(header.prompt, 4, full),
    ]
    for turn in trajectory.turns:
        calls = [call for call in trajectory.calls if call.intent.step_index == turn.index]
        lines += _turn_lines(turn, calls, full)
    if trajectory.end:
        lines.append(f"  end: {trajectory.end.status} ({trajectory.end.reason})")
        lines += _text(trajectory.end.answer or "", 4, full) + _text(trajectory.end.error or "", 4, full)
    for outcome in trajectory.outcomes:
        why = f": {plain(outcome.rationale)}" if outcome.rationale else ""
        lines.append(f"  outcome: {outcome.label} by {outcome.source} ({plain(outcome.who)}){why}")
    return lines


def decision_text(decision: Decision) -> str:
    """Return a decision with its rule and place on one line, safe to print."""
    place = f" ({plain(decision.file)}:{decision.line})" if decision.file else ""
    rule = f" by {plain(decision.rule)}{place}" if decision.rule else ""
    made = "" if decision.arguments is None else f"; made with {plain(canonical_json(decision.arguments))}"
    return f"{decision.verdict}{rule}: {plain(decision.reason)}{made}"


def short_hash(model_hash: str) -> str:
    """Return the beginning of a model's hash, as tables show it; a model elsewhere has its name only, shown whole."""
    shown = plain(model_hash)
    return shown.removeprefix("sha256:")[:SHORT_ID] if shown.startswith("sha256:") else shown


def _turn_lines(turn: TurnRecord, calls: Iterable[CallRecord], full: bool) -> list[str]:
    lines = [f"  step {turn.index}: {turn.kind} · {len(turn.reply.ids)} tokens · {turn.reply.seconds:.2f} s"]
    lines += _text(turn.reply.text, 4, full)
    if turn.error:
        lines.append(f"    error: {plain(turn.error)}")
    for call in calls:
        lines += _call_lines(call, full)
    return lines


def _call_lines(call: CallRecord, full: bool) -> list[str]:
    arguments = ", ".join(f"{plain(name)}={plain(repr(value))}" for name, value in call.intent.call.arguments.items())
    lines = [f"    call {plain(call.intent.call.name)}({arguments})", f"      {decision_text(call.intent.decision)}"]
    if call.intent.shadow is not None:
        lines.append(f"      in shadow: {decision_text(call.intent.shadow)}")
    if call.result is None:
        return [*lines, "      in doubt: begun, and no result is recorded"]
    verdict = f", the tool says {call.result.verdict}" if call.result.verdict else ""
    cut = ", cut" if call.result.truncated else ""
    lines.append(f"      {call.result.transport}{verdict} · {call.result.seconds:.2f} s{cut}")
    return lines + _text(call.result.output, 8, full)


def _text(text: str, indent: int, full: bool) -> list[str]:
    lines = text.split("\n") if text else []
    shown = lines if full else lines[:_MAX_LINES]
    left = [f"… {len(lines) - len(shown)} more lines (--full shows them)"] if len(shown) < len(lines) else []
    return [" " * indent + plain(line) for line in shown] + [" " * indent + line for line in left]


def _cell(text: str) -> str:
    return plain(" ".join(text.split()), width=_SHOWN)


def _short(run_id: str) -> str:
    return run_id[:SHORT_ID]


def _time(created_at: str) -> str:
    return created_at[:19].replace("T", " ")


def _turns(count: int) -> str:
    return "1 turn" if count == 1 else f"{count} turns"


def _origin(imported: str | None) -> str:
    return f"  imported from {plain(imported)}" if imported else ""
