"""The tools, each version as each model used it: calls, how many went well, and how the runs ended that made them."""

from collections.abc import Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding

from ..store.tools import ToolRow, tool_rows
from .cells import clock, line, many
from .listing import Listing
from .lists import Column, Rows
from .plot import bar
from .view import look_of, palette

_NEWEST = 50_000


class ToolsView(Listing[ToolRow]):
    """Tools by version and model."""

    title = "Tools"
    about = (
        "How each version of a tool did, as each model used it. A call that went well was carried out and the tool did "
    )
    about += "not call it an error; whether the task succeeded is the run's outcome."
    columns = (
        Column("tool", 14),
        Column("version", 7),
        Column("model", 0),
        Column("calls", 7),
        Column("went well", 15),
        Column("runs ended well", 15),
        Column("denied", 6, wide=100),
        Column("invalid", 7, wide=100),
    )
    empty = "no tool was called yet"
    patience_s = 10.0
    BINDINGS: ClassVar[list[Any]] = [Binding("a", "all", "all calls/newest")]

    def __init__(self) -> None:
        super().__init__("tools")
        self.newest: int | None = _NEWEST

    def read(self) -> list[ToolRow]:
        """Read the table."""
        with look_of(self).store.reading() as db:
            return tool_rows(db, self.newest)

    def key_of(self, row: ToolRow) -> str:
        """Return tool, version and model as one."""
        return "\0".join((row.tool, row.version or "", row.model))

    def cells(self, row: ToolRow, rows: Rows) -> list[Text]:
        """Return the cells of a tool."""
        styles = palette(self)
        return [
            line(row.tool, 14, styles.name),
            line(row.version or "-", 7, styles.quiet),
            line(row.model, rows.width_of("model")),
            Text(f"{row.calls:>7,}"),
            _share(row.fine, row.attempted),
            _share(row.succeeded, row.judged),
            Text(f"{row.denied:>6,}", styles.warn if row.denied else styles.quiet),
            Text(f"{row.invalid:>7,}", styles.warn if row.invalid else styles.quiet),
        ]

    def told(self, row: ToolRow) -> Text:
        """Return everything that is counted, and the same tool's other versions and models."""
        styles = palette(self)
        shown = Text.assemble(line(row.tool, None, styles.strong), " ", line(row.version or "", None, styles.quiet))
        shown.append(f"\n{row.effect or 'effect unknown'}, last called {clock(row.last_at)} UTC\n\n", styles.quiet)
        counted = {
            "calls": row.calls,
            "went well": row.fine,
            "denied": row.denied,
            "invalid": row.invalid,
            "timed out": row.timeout,
            "in doubt": row.in_doubt,
            "recorded only": row.not_executed,
            "mean time": "-" if row.seconds is None else f"{row.seconds:.3f} s",
            "runs judged": row.judged,
            "succeeded": row.succeeded,
        }
        for name, value in counted.items():
            shown.append(f"{name:>13}  ", styles.quiet).append(
                f"{value:,}\n" if isinstance(value, int) else f"{value}\n"
            )
        return shown.append("\n").append_text(self._siblings(row))

    def _siblings(self, row: ToolRow) -> Text:
        styles = palette(self)
        shown = Text.assemble(("success of runs, by version and model\n", styles.strong))
        for other in (each for each in self.found if each.tool == row.tool):
            share = other.succeeded / other.judged if other.judged else 0.0
            shown.append(f"{bar(share, 20)} ", styles.good if other is row else styles.quiet)
            shown.append_text(_share(other.succeeded, other.judged)).append("  ")
            shown.append_text(line(f"{other.version or '-'}  {other.model}", 60)).append("\n")
        return shown

    def status(self) -> Text:
        """Return which calls are counted."""
        if not self.found:
            return Text(self.empty)
        which = "all calls" if self.newest is None else f"the newest {self.newest:,} calls; a counts all"
        return Text(f"{many(len(_names(self.found)), 'tool')}, {which}")

    async def action_all(self) -> None:
        """Count all calls, or the newest only."""
        self.newest = _NEWEST if self.newest is None else None
        await self.reload()


def _names(rows: Iterable[ToolRow]) -> set[str]:
    return {row.tool for row in rows}


def _share(part: int, whole: int) -> Text:
    return Text(f"{part / whole:>4.0%} of {whole:,}" if whole else "   - of 0", no_wrap=True)
