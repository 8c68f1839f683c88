"""Two runs of one task beside each other: each line of both, those that differ marked, and the step where they part."""

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from ..records import Trajectory
from ..traces.diff import DiffRow, TraceDiff, compare
from .cells import block, line, short, verdict
from .lists import Column, Rows
from .view import ask, look_of, palette


class DiffScreen(Screen[None]):
    """Two runs. `n` goes to the next line that differs."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,q", "leave", "back"),
        Binding("n", "differing(1)", "next difference"),
        Binding("N", "differing(-1)", "one before", show=False),
        Binding("o", "only", "only differences"),
    ]
    about = (
        "Two runs beside each other. ≠ marks a line that differs, < and > one that only the left or the right run has."
    )

    def __init__(self, left: str, right: str) -> None:
        super().__init__()
        self.runs = (left, right)
        self.diff: TraceDiff | None = None
        self.only = False
        self._both: tuple[Trajectory, Trajectory] | None = None

    def compose(self) -> ComposeResult:
        """Lay out head and lines."""
        yield Static(id="diff-head", classes="head")
        yield Rows((Column("step", 8), Column("", 1), Column("left", 0), Column("right", 0)), widget_id="diff-rows")
        with VerticalScroll(id="diff-detail", can_focus=False):
            yield Static(id="diff-text")
        yield Footer(compact=True, show_command_palette=False)

    async def on_mount(self) -> None:
        """Read both runs."""
        self.query_one(Rows).focus()
        store = look_of(self).store
        left, right = [await ask(self, store.trajectory, run_id) for run_id in self.runs]
        if left is None or right is None:
            self.dismiss()
            return
        self._both, self.diff = (left, right), compare(left, right)
        self._draw()

    @on(Rows.Resized)
    def _resized(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self.diff is None or self._both is None:
            return
        styles, rows = palette(self), self.query_one(Rows)
        head = Text(" ", no_wrap=True)
        for run in self._both:
            head.append(f"{short(run.run_id)} ", styles.strong).append_text(verdict(run.outcome, styles)).append("   ")
        parted = self.diff.parts_at
        head.append("they do not part" if parted is None else f"they part at step {parted}", styles.warn)
        self.query_one("#diff-head", Static).update(head)
        width = rows.width_of("left")
        rows.fill([(str(number), self._cells(row, width)) for number, row in enumerate(self.shown())])

    def shown(self) -> Sequence[DiffRow]:
        """Return the lines that are shown; what both runs were given alike is not."""
        assert self.diff is not None
        given = [row for row in self.diff.given if not row.same]
        return [row for row in (*given, *self.diff.steps, *self.diff.ended) if not (self.only and row.same)]

    def _cells(self, row: DiffRow, width: int) -> list[Text]:
        styles = palette(self)
        mark = " " if row.same else "<" if row.b is None else ">" if row.a is None else "≠"
        return [
            line(row.what or f"step {row.step}", 8, styles.quiet),
            Text(mark, styles.warn),
            line(row.a or "", width, styles.removed if not row.same and row.a is not None else ""),
            line(row.b or "", width, styles.added if not row.same and row.b is not None else ""),
        ]

    @on(Rows.Highlighted)
    def _moved(self, event: Rows.Highlighted) -> None:
        styles, row = palette(self), self.shown()[event.row]
        shown = Text()
        for name, text in (("left", row.a), ("right", row.b)):
            shown.append(f"{name:>5}  ", styles.quiet)
            shown.append_text(Text("-", styles.quiet) if text is None else block(text, 5_000)).append("\n")
        self.query_one("#diff-text", Static).update(shown)

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss()

    def action_differing(self, step: int) -> None:
        """Go to the next line that differs, or the one before."""
        rows, shown = self.query_one(Rows), self.shown()
        places = range(rows.cursor_row + 1, len(shown)) if step > 0 else range(rows.cursor_row - 1, -1, -1)
        if (place := next((each for each in places if not shown[each].same), None)) is not None:
            rows.move_cursor(row=place)

    def action_only(self) -> None:
        """Show only what differs, or everything."""
        self.only = not self.only
        self._draw()
