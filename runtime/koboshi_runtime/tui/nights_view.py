"""The nights and trainings: what each learnt, proved or was refused for, with its learning curve and what it took.

A night is a job in the store, with its morning report as the result; a training by hand is one too. Both are read as
they are stored: what a newer trainer adds is left out, and what an older one lacks is not shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text

from ..store.rows import JobRow, JobStatus
from .cells import block, clock, line, many
from .listing import Listing
from .lists import Column, Rows
from .models_view import gate_text, parity_text
from .plot import Drawn, bar, curve
from .theme import Palette
from .view import look_of, palette

NIGHT, TRAINING = "nightly", "train"
_SIGNS = {
    JobStatus.RUNNING: "▸ at work",
    JobStatus.DONE: "✓ done",
    JobStatus.REFUSED: "✗ refused",
    JobStatus.FAILED: "! failed",
    JobStatus.INTERRUPTED: "‖ cut off",
}
_KINDS = {"promoted": "✓ got up wiser", "refused": "✗ stayed", "nothing": "· nothing to do", "failed": "! failed"}
_CURVE_LINES = 8


class NightsView(Listing[JobRow]):
    """Nights and trainings."""

    title = "Nights"
    about = (
        "What happened at night, the newest first: what was learnt, whether the gate let it in, the curve of the loss."
    )
    columns = (
        Column("began (UTC)", 11),
        Column("kind", 7),
        Column("came to", 16),
        Column("before", 6),
        Column("after", 6),
        Column("what happened", 0),
    )
    empty = "no night yet; koboshi nightly run walks one"
    patience_s = 5.0
    BINDINGS: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__("nights")
        self.stage: str | None = None

    def read(self) -> list[JobRow]:
        """Read the jobs of nights and trainings."""
        self.stage = look_of(self).night_stage()
        return [job for job in look_of(self).store.jobs() if job.kind in (NIGHT, TRAINING)]

    def key_of(self, row: JobRow) -> str:
        """Return the job's id."""
        return row.job_id

    def cells(self, row: JobRow, rows: Rows) -> list[Text]:
        """Return the cells of a night."""
        styles, verdict = palette(self), verdict_of(row)
        return [
            Text(clock(row.started_at), styles.quiet),
            Text("night" if row.kind == NIGHT else "by hand", styles.quiet),
            _came_to(row, styles),
            Text(_percent(verdict.get("current_rate")), styles.quiet),
            Text(_percent(verdict.get("candidate_rate"))),
            line(summary(row), rows.width_of("what happened")),
        ]

    def told(self, row: JobRow) -> Text:
        """Return everything there is about one night."""
        styles, result = palette(self), row.result or {}
        shown = Text.assemble(_came_to(row, styles), "  ", line(summary(row), None, styles.strong), "\n")
        for reason in result.get("reasons") or ():
            shown.append("  because ", styles.bad).append_text(block(str(reason), 1_000)).append("\n")
        if hint := result.get("hint"):
            shown.append("  ").append_text(block(str(hint), 500, styles.quiet)).append("\n")
        shown.append_text(self._success_over_nights(styles))
        shown.append_text(self._learning(learnt_of(row), styles))
        if verdict := verdict_of(row):
            shown.append("\n").append_text(gate_text(verdict, styles))
        if parity := result.get("parity"):
            shown.append("\n").append_text(parity_text(parity, styles))
        return shown.append_text(_cost(result, styles))

    def _learning(self, learnt: Mapping[str, Any], styles: Palette) -> Text:
        losses = [float(value) for value in learnt.get("losses") or ()]
        if not losses:
            return Text()
        shown = Text.assemble(("\nloss by optimizer step\n", styles.strong))
        drawn = Drawn(styles.name, styles.quiet)
        shown.append_text(curve(losses, drawn, width=self._plot_width(), height=_CURVE_LINES)).append("\n")
        after = learnt.get("held_out_after") or {}
        for name, value in (learnt.get("held_out_before") or {}).items():
            if name in after:
                text = f"  held out {name}: {value:.3f} → {after[name]:.3f}"
                shown.append_text(line(text, None, styles.quiet)).append("\n")
        rows = learnt.get("rows") or learnt.get("label_mix")
        if isinstance(rows, Mapping):
            text = "  learnt from " + ", ".join(f"{count} {name}" for name, count in rows.items())
            shown.append_text(line(text, None, styles.quiet)).append("\n")
        return shown

    def _success_over_nights(self, styles: Palette) -> Text:
        rates = success_by_night(self.found)
        if len(rates) < 2:
            return Text()
        shown = Text.assemble(("\nsuccess of the live model, night by night\n", styles.strong))
        drawn = Drawn(styles.good, styles.quiet, unit=" %", foot=0.0)
        points = [100 * rate for rate in rates]
        return shown.append_text(curve(points, drawn, width=self._plot_width(), height=_CURVE_LINES)).append("\n")

    def _plot_width(self) -> int:
        return max(30, self.query_one(".about").size.width - 4)

    def status(self) -> Text:
        """Return how many there are."""
        promoted = sum(_kind(job) == "promoted" for job in self.found)
        if not self.found:
            return Text(self.empty)
        shown = Text(f"{many(len(self.found), 'job')}, {promoted} promoted")
        return shown.append(" · ▸ at work now: ").append_text(line(self.stage, 20)) if self.stage else shown


def verdict_of(job: JobRow) -> Mapping[str, Any]:
    """Return the gate's verdict of a night; empty where there was none."""
    found = (job.result or {}).get("verdict")
    return found if isinstance(found, Mapping) else {}


def learnt_of(job: JobRow) -> Mapping[str, Any]:
    """Return what a night learnt, a training's fit; empty where nothing was."""
    result = job.result or {}
    found = result.get("learnt") or result.get("fit")
    return found if isinstance(found, Mapping) else {}


def success_by_night(jobs: Sequence[JobRow]) -> list[float]:
    """Return the success on unseen tasks of what was live before the first gate and after each, the oldest first."""
    rates: list[float] = []
    for job in reversed(jobs):
        verdict = verdict_of(job)
        if not rates and isinstance(before := verdict.get("current_rate"), int | float):
            rates.append(float(before))
        rate = verdict.get("candidate_rate") if verdict.get("accepted") else verdict.get("current_rate")
        if isinstance(rate, int | float):
            rates.append(float(rate))
    return rates


def summary(job: JobRow) -> str:
    """Return a night in one line, for people."""
    result = job.result or {}
    if job.status is JobStatus.RUNNING:
        return "at work"
    if error := result.get("error"):
        return str(error)
    kind, name = _kind(job), result.get("candidate") or result.get("name") or "the candidate"
    reasons = result.get("reasons") or [each.get("text", "") for each in verdict_of(job).get("reasons") or ()]
    because = f": {reasons[0]}" if reasons else ""
    return (
        f"{name} went live"
        if kind == "promoted"
        else f"{name} was refused{because}"
        if kind == "refused"
        else because[2:]
    )


def _kind(job: JobRow) -> str:
    result = job.result or {}
    named = result.get("kind")
    if isinstance(named, str):
        return named
    return "promoted" if result.get("promoted") else "refused" if job.status is JobStatus.REFUSED else ""


def _came_to(job: JobRow, styles: Palette) -> Text:
    kind = _kind(job)
    style = {"promoted": styles.good, "refused": styles.warn, "failed": styles.bad}.get(kind, styles.quiet)
    return Text(_KINDS.get(kind, _SIGNS[job.status]), style, no_wrap=True)


def _cost(result: Mapping[str, Any], styles: Palette) -> Text:
    seconds = (result.get("cost") or {}).get("seconds") or {}
    if not seconds:
        return Text()
    shown, most = Text.assemble(("\ntime by stage\n", styles.strong)), max(seconds.values()) or 1
    for stage, value in seconds.items():
        shown.append_text(line(f"{stage:>10}", 10, styles.quiet)).append(f" {bar(value / most, 24)} {value:,.0f} s\n")
    return shown


def _percent(rate: object) -> str:
    return f"{rate:>5.0%}" if isinstance(rate, int | float) else "    -"
