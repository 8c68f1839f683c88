"""A run as a tree: its prompt, each step with what was read, written, called, decided and returned, and how it ended.

A node is a title and a function that makes the text beside the tree; nothing is made before it is looked at.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from rich.text import Text

from koboshi_policies import Decision
from koboshi_tools import ToolCall

from ..records import CallRecord, Outcome, Segment, Trajectory, TurnRecord
from .cells import block, clock, line, many, short_hash, verdict
from .theme import Palette
from .tokens import Pieces, reply_text

_MOST = 20_000
"""Characters of one text that are shown at once."""

Detail = Callable[[Pieces | None], Text]


@dataclass(frozen=True, slots=True)
class Node:
    """One line of the tree; `call` is the call that it is about, if any."""

    title: Text
    detail: Detail
    children: tuple["Node", ...] = ()
    call: ToolCall | None = None


def run_nodes(run: Trajectory, palette: Palette) -> tuple[Node, ...]:
    """Return the lines below the root."""
    header = run.header
    given = Node(_title("prompt", header.prompt, palette), lambda _: block(header.prompt, _MOST))
    system = Node(
        _title("told", f"system text, {len(header.tool_specs)} tools", palette), lambda _: _told(run, palette)
    )
    steps = [
        _step(turn, [call for call in run.calls if call.intent.step_index == turn.index], palette) for turn in run.turns
    ]
    return (given, system, *steps, *_ending(run, palette))


def overview(run: Trajectory, palette: Palette) -> Text:
    """Return what there is to say of the whole run."""
    header, turns = run.header, run.turns
    tokens, seconds = sum(len(turn.reply.ids) for turn in turns), sum(turn.reply.seconds for turn in turns)
    shown = Text()
    rows = {
        "run": run.run_id,
        "begun": f"{clock(run.created_at)} UTC",
        "purpose": f"{header.purpose} · {header.split}",
        "task": header.task_id or "none",
        "model": short_hash(header.model_hash),
        "drawn with": f"seed {header.seed}, temperature {header.temperature:g}, top-p {header.top_p:g}"
        + (f", guidance {header.guidance:g}" if header.guidance else ""),
        "condition": header.condition or "none",
        "project": header.project,
        "policy": short_hash(header.policy_hash),
        **(
            {}
            if header.forked_at is None
            else {"forked": f"from {header.parent_run_id}, {many(header.forked_at, 'turn')}"}
        ),
        "took": f"{many(len(turns), 'step')}, {many(len(run.calls), 'call')}, {tokens} tokens, {seconds:.2f} s",
    }
    for name, value in rows.items():
        shown.append(f"{name:>11}  ", palette.quiet).append_text(line(value)).append("\n")
    shown.append("    outcome  ", palette.quiet).append_text(verdict(run.outcome, palette)).append("\n\n")
    shown.append_text(block(header.prompt, 2_000, palette.strong))
    if run.end and run.end.answer:
        shown.append("\n\n").append_text(block(run.end.answer, 2_000))
    return shown


def _step(turn: TurnRecord, calls: Iterable[CallRecord], palette: Palette) -> Node:
    reply = turn.reply
    title = Text.assemble((f"step {turn.index} ", palette.strong), no_wrap=True)
    title.append(f"{turn.kind}", palette.bad if turn.error else palette.name)
    title.append(f" · {len(reply.ids)} tok · {reply.seconds:.2f} s", palette.quiet)
    children = [_segment(segment, palette) for segment in turn.segments]
    children.append(
        Node(_title("reply", reply.text, palette), lambda pieces: _reply(turn, palette, pieces)),
    )
    children += [_call(call, palette) for call in calls]
    return Node(title, lambda pieces: _reply(turn, palette, pieces), tuple(children))


def _segment(segment: Segment, palette: Palette) -> Node:
    title = _title(f"read {segment.kind}", segment.text, palette, f"{len(segment.ids)} tok ")
    return Node(title, lambda _: block(segment.text, _MOST))


def _reply(turn: TurnRecord, palette: Palette, pieces: Pieces | None) -> Text:
    reply = turn.reply
    shown = Text.assemble((f"{turn.kind}, ended by {reply.finish}", palette.strong))
    shown.append(
        f" · {len(reply.ids)} tokens · {reply.seconds:.2f} s · {reply.reused_tokens} of the prompt reused, "
        f"{reply.decoded_tokens} decoded\n\n",
        palette.quiet,
    )
    if turn.error:
        shown.append("not a call: ", palette.bad).append_text(block(turn.error, _MOST)).append("\n\n")
    return shown.append_text(reply_text(reply, pieces, palette))


def _call(call: CallRecord, palette: Palette) -> Node:
    intent = call.intent
    arguments = json.dumps(intent.call.arguments, ensure_ascii=False)
    title = Text.assemble(("call ", palette.name), no_wrap=True).append_text(line(intent.call.name, 40, palette.strong))
    title.append(" ").append_text(line(arguments, 200, palette.quiet))
    shadow = [_decision("in shadow", intent.shadow, palette)] if intent.shadow else []
    children = (_decision("decision", intent.decision, palette), *shadow, _result(call, palette))
    return Node(title, lambda _: _called(call, palette), children, call=intent.call)


def _called(call: CallRecord, palette: Palette) -> Text:
    intent = call.intent
    shown = Text().append_text(line(intent.call.name, None, palette.strong))
    version = f" {intent.tool_version}" if intent.tool_version else ""
    shown.append_text(line(f"{version} · {intent.effect or 'effect unknown'}\n", None, palette.quiet)).append("\n\n")
    shown.append_text(block(_pretty(intent.call.arguments), _MOST))
    if intent.made != intent.call:
        shown.append("\n\nmade with\n", palette.warn).append_text(block(_pretty(intent.made.arguments), _MOST))
    return shown


def _decision(name: str, decision: Decision, palette: Palette) -> Node:
    title = Text.assemble((f"{name} ", palette.quiet), no_wrap=True)
    title.append(decision.verdict, palette.good if decision.permits else palette.bad)
    title.append(" ").append_text(line(decision.rule or decision.reason, 80))
    return Node(title, lambda _: decision_text(decision, palette))


def decision_text(decision: Decision, palette: Palette) -> Text:
    """Return a decision with its rule and its place."""
    rows = {
        "verdict": decision.verdict.value,
        "rule": decision.rule,
        "layer": decision.layer,
        "place": f"{decision.file}:{decision.line}" if decision.file else None,
        "reason": decision.reason,
        "asked": decision.asked and decision.asked.value,
        "becomes": None if decision.arguments is None else json.dumps(decision.arguments, ensure_ascii=False),
    }
    shown = Text()
    for name, value in rows.items():
        if value is not None:
            shown.append(f"{name:>8}  ", palette.quiet).append_text(block(value, _MOST)).append("\n")
    return shown


def _result(call: CallRecord, palette: Palette) -> Node:
    found = call.result
    if found is None:
        text = Text.assemble(("result in doubt: begun, and no result is recorded", palette.warn), no_wrap=True)
        return Node(text, lambda _: text)
    title = Text.assemble(("result ", palette.quiet), no_wrap=True)
    fine = found.transport == "ok" and found.verdict != "error"
    said = f", the tool says {found.verdict}" if found.verdict else ""
    title.append(f"{'✓' if fine else '✗'} {found.transport}{said}", palette.good if fine else palette.bad)
    title.append(f" · {found.seconds:.2f} s{' · cut' if found.truncated else ''} ", palette.quiet)
    title.append_text(line(found.output, 200))
    return Node(title, lambda _: block(found.output, _MOST))


def _ending(run: Trajectory, palette: Palette) -> Iterable[Node]:
    if run.end:
        end = run.end
        title = Text.assemble(("end ", palette.strong), no_wrap=True).append(f"{end.reason} ", palette.name)
        title.append_text(line(end.answer or end.error or "", 200))
        yield Node(title, lambda _: block("\n\n".join(text for text in (end.answer, end.error) if text), _MOST))
    for outcome in run.outcomes:
        title = Text.assemble(("outcome ", palette.quiet), no_wrap=True).append_text(verdict(outcome.label, palette))
        title.append(f" by {outcome.source} ").append_text(line(outcome.who, 40, palette.quiet))
        yield Node(title, partial(_why, outcome))


def _why(outcome: Outcome, _: Pieces | None) -> Text:
    return block(outcome.rationale or "no reason was given", _MOST)


def _told(run: Trajectory, palette: Palette) -> Text:
    shown = block(run.header.system or "no system text", _MOST)
    for spec in run.header.tool_specs:
        shown.append("\n\n").append_text(line(spec.name, None, palette.strong)).append("\n")
        shown.append_text(block(spec.description, 2_000)).append("\n")
        shown.append_text(block(_pretty(spec.parameters), 4_000, palette.quiet))
    return shown


def _title(name: str, text: str, palette: Palette, counts: str = "") -> Text:
    return Text.assemble((f"{name} {counts}", palette.quiet), no_wrap=True).append_text(line(text, 200))


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
