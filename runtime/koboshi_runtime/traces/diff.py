"""Two runs beside each other: what they were given that differs, each step line by line, and where they part.

Steps are paired by their number, lines within a step by what they have in common. Times, token counts and ids of runs
are no difference. The value holds texts as they are; `diff_cells` makes them safe to print.
"""

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest

from koboshi_policies import Verdict
from koboshi_tools import Frozen, hash_value

from ..ids import SHORT_ID
from ..records import CallRecord, RunHeader, Trajectory
from ..text import plain
from .view import short_hash

_CELL = 300
"""Characters of one line that are shown; the rest is in `traces show`."""

_GIVEN = (
    "project",
    "purpose",
    "seed",
    "temperature",
    "top_p",
    "guidance",
    "condition",
    "sample",
    "forked_at",
    "imported",
)


class DiffRow(Frozen):
    """One line of both runs; None where one run has no such line. `step` is None before the first step and at the end.

    `what` names the line where it is no line of a step: `prompt`, `model`, `seed`, …, `end`, `answer`, `outcome`.
    """

    step: int | None
    what: str
    a: str | None
    b: str | None

    @property
    def same(self) -> bool:
        """Whether both runs have it."""
        return self.a == self.b


class TraceDiff(Frozen):
    """Two runs beside each other; `parts_at` is the first step that differs, None if none does."""

    a: str
    b: str
    parts_at: int | None
    given: tuple[DiffRow, ...]
    steps: tuple[DiffRow, ...]
    ended: tuple[DiffRow, ...]

    @property
    def same(self) -> bool:
        """Whether the runs went and ended alike, whatever they were given."""
        return all(row.same for row in (*self.steps, *self.ended))


def compare(a: Trajectory, b: Trajectory) -> TraceDiff:
    """Return two runs beside each other."""
    steps = tuple(_steps(a, b))
    return TraceDiff(
        a=a.run_id,
        b=b.run_id,
        parts_at=next((row.step for row in steps if not row.same), None),
        given=tuple(_rows(_given(a.header), _given(b.header))),
        steps=steps,
        ended=tuple(_rows(_ended(a), _ended(b))),
    )


def diff_columns(diff: TraceDiff) -> tuple[str, ...]:
    """Return the columns of `diff_cells`."""
    return ("step", "", diff.a[:SHORT_ID], diff.b[:SHORT_ID])


def diff_cells(diff: TraceDiff) -> list[tuple[str, ...]]:
    """Return what was given differently, every step, and how both ended, safe to print; `≠ < >` mark what differs."""
    given = [row for row in diff.given if not row.same]
    return [
        (row.what if row.step is None else str(row.step), _mark(row), _cell(row.a), _cell(row.b))
        for row in (*given, *diff.steps, *diff.ended)
    ]


def _mark(row: DiffRow) -> str:
    if row.same:
        return "="
    return "<" if row.b is None else ">" if row.a is None else "≠"


def _cell(text: str | None) -> str:
    return plain(text or "", width=_CELL)


def _rows(a: dict[str, str], b: dict[str, str]) -> Iterator[DiffRow]:
    for what in dict.fromkeys([*a, *b]):
        yield DiffRow(step=None, what=what, a=a.get(what), b=b.get(what))


def _given(header: RunHeader) -> dict[str, str]:
    return {
        "prompt": header.prompt,
        "system": header.system,
        "model": short_hash(header.model_hash),
        "policy": short_hash(header.policy_hash),
        "tools": ", ".join(header.tools),
        "specs": short_hash(hash_value([spec.model_dump(mode="json") for spec in header.tool_specs])),
        **{name: f"{getattr(header, name)}" for name in _GIVEN},
    }


def _ended(trajectory: Trajectory) -> dict[str, str]:
    end = trajectory.end
    if end is None:
        return {"end": "not ended", "outcome": trajectory.outcome.value}
    answer = {} if end.answer is None else {"answer": end.answer}
    error = {} if end.error is None else {"error": end.error}
    return {"end": end.reason.value, **answer, **error, "outcome": trajectory.outcome.value}


def _steps(a: Trajectory, b: Trajectory) -> Iterator[DiffRow]:
    numbers = dict.fromkeys(sorted({turn.index for turn in (*a.turns, *b.turns)}))
    for number in numbers:
        for left, right in _aligned(_lines(a, number), _lines(b, number)):
            yield DiffRow(step=number, what="", a=left, b=right)


def _aligned(a: list[str], b: list[str]) -> Iterator[tuple[str | None, str | None]]:
    for _, a_from, a_to, b_from, b_to in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        yield from zip_longest(a[a_from:a_to], b[b_from:b_to])


def _lines(trajectory: Trajectory, number: int) -> list[str]:
    lines: list[str] = []
    for turn in trajectory.turns:
        if turn.index == number:
            lines += turn.reply.text.splitlines()
            lines += [f"invalid: {turn.error}"] if turn.error else []
    for call in trajectory.calls:
        if call.intent.step_index == number:
            lines += _call_lines(call)
    return lines


def _call_lines(call: CallRecord) -> list[str]:
    decision, name = call.intent.decision, call.intent.call.name
    decided = [] if decision.verdict is Verdict.ALLOW else [f"{name}: {decision.verdict}: {decision.reason}"]
    if call.result is None:
        return [*decided, f"{name}: in doubt"]
    said = f", the tool says {call.result.verdict}" if call.result.verdict else ""
    return [*decided, f"{name}: {call.result.transport}{said}", *call.result.output.splitlines()]
