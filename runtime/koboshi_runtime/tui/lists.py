"""A list of rows under their columns that fills its width, keeps its place, and moves with `j` and `k` too.

Its own widget, because Textual's `DataTable` draws a row in a millisecond and every row again when one is added: too
dear for a list that follows what agents write. Here a row is drawn once, and again when it changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

_NEAR = 5
"""Rows before the end from which more are wanted."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `width` cells; 0 shares what is left. It is shown where the list has at least `wide` cells."""

    title: str
    width: int
    wide: int = 0


Row = tuple[str, Sequence[Text]]
"""What names a row through every refresh, and a cell for each of the columns."""


class Rows(ScrollView, can_focus=True):
    """The list. The cursor stays on its row while others come before it: a key never acts on a row that just came."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--header", "rows--cursor"}
    BINDINGS: ClassVar[list[Any]] = [
        Binding("j,down", "move(1)", "down", show=False),
        Binding("k,up", "move(-1)", "up", show=False),
        Binding("pagedown", "page(1)", "a page down", show=False),
        Binding("pageup", "page(-1)", "a page up", show=False),
        Binding("g,home", "go(0)", "first", show=False),
        Binding("G,end", "go(-1)", "last", show=False),
    ]

    @dataclass
    class Highlighted(Message):
        """The cursor stands on another row."""

        row: int

    class Selected(Message):
        """The row under the cursor was clicked once more."""

    class NearEnd(Message):
        """The last rows can be seen: more are wanted, if there are more."""

    class Resized(Message):
        """The width changed, and with it which columns there are."""

    def __init__(self, columns: Sequence[Column], *, widget_id: str) -> None:
        super().__init__(id=widget_id)
        self._columns = tuple(columns)
        self._rows: list[Row] = []
        self._drawn: dict[str, Strip] = {}
        self._laid_out = 0
        self.cursor_row = 0

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor, or None in an empty list."""
        return self._rows[self.cursor_row][0] if self._rows else None

    def width_of(self, title: str) -> int:
        """Return how many cells the column `title` has; 0 where it is not shown."""
        return next((width for column, width in self._layout() if column.title == title), 0)

    def fill(self, rows: Sequence[Row]) -> None:
        """Show these rows. Before there is a width nothing is shown; `Resized` asks for the rows once there is one."""
        if not self.size.width:
            return
        kept = self.key
        before = dict(self._rows) if self._laid_out == self.size.width else {}
        self._drawn = {key: self._drawn[key] for key, cells in rows if key in self._drawn and before.get(key) == cells}
        places = {key: place for place, (key, _) in enumerate(rows)}
        moved = 0 if kept is None or kept not in places else places[kept] - self.cursor_row
        self._rows, self._laid_out = list(rows), self.size.width
        self.cursor_row = max(0, min(self.cursor_row + moved, len(rows) - 1))
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        # At the top the list stays at the top, so that what is new is seen.
        if moved and self.scroll_y:
            self.scroll_to(y=self.scroll_y + moved, animate=False, force=True)
        if self.key != kept and self.key is not None:
            self.post_message(self.Highlighted(self.cursor_row))
        self.refresh()

    def move_cursor(self, row: int) -> None:
        """Put the cursor on a row, and the row where it can be seen."""
        if not self._rows:
            return
        row = max(0, min(row, len(self._rows) - 1))
        changed, self.cursor_row = row != self.cursor_row, row
        # The first line is the header, which stays; so a row is one lower than its number.
        self.scroll_to_region(Region(0, row, 1, 2), animate=False, force=True, immediate=True)
        self._ask_for_more()
        if changed:
            self.post_message(self.Highlighted(row))
            self.refresh()

    def in_sight(self) -> bool:
        """Return whether the row under the cursor can be seen; if not, it can from now on."""
        seen = 0 <= self.cursor_row - round(self.scroll_y) < self.size.height - 1
        if not seen:
            self.move_cursor(self.cursor_row)
        return seen

    def action_move(self, rows: int) -> None:
        """Go down or up."""
        self.move_cursor(self.cursor_row + rows)

    def action_page(self, pages: int) -> None:
        """Go down or up by what is seen."""
        self.move_cursor(self.cursor_row + pages * max(1, self.size.height - 2))

    def action_go(self, row: int) -> None:
        """Go to the first row, or the last (-1)."""
        self.move_cursor(row if row >= 0 else len(self._rows) - 1)

    def render_line(self, y: int) -> Strip:
        """Draw one line: the header, a row, or nothing."""
        base, number = self.rich_style, y - 1 + round(self.scroll_y)
        if y == 0:
            header = [Text(column.title) for column, _ in self._layout()]
            return self._strip(header, base + self.get_component_rich_style("rows--header"))
        if number >= len(self._rows):
            return Strip.blank(self.size.width, base)
        key, cells = self._rows[number]
        numbers = [place for place, column in enumerate(self._columns) if column.wide <= self.size.width]
        shown = [cells[place] for place in numbers]
        if number == self.cursor_row:
            return self._strip(shown, base, over=self.get_component_rich_style("rows--cursor"))
        if key not in self._drawn:
            self._drawn[key] = self._strip(shown, base)
        return self._drawn[key]

    def notify_style_update(self) -> None:
        """Draw everything anew in another theme."""
        super().notify_style_update()
        self._drawn.clear()

    def on_resize(self, _: events.Resize) -> None:
        """Ask for the rows again where the columns no longer fit."""
        if self.size.width != self._laid_out:
            self._drawn.clear()
            self.post_message(self.Resized())

    def on_click(self, event: events.Click) -> None:
        """Go to a row, or open it if the cursor stands there."""
        row = event.y - 1 + round(self.scroll_y)
        if event.y == 0 or row >= len(self._rows):
            return
        if row == self.cursor_row:
            self.post_message(self.Selected())
        self.move_cursor(row)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Want more rows when the last ones come into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._ask_for_more()

    def _ask_for_more(self) -> None:
        seen = max(self.cursor_row, round(self.scroll_y) + self.size.height - 1)
        if self._rows and seen >= len(self._rows) - _NEAR:
            self.post_message(self.NearEnd())

    def _strip(self, cells: Sequence[Text], base: Style, over: Style | None = None) -> Strip:
        background = base + over if over else base
        pieces: list[Segment] = []
        for cell, (_, width) in zip(cells, self._layout(), strict=True):
            # Rich leaves the style of a text to whoever prints it, and gives only those of its parts.
            style = base + self.app.console.get_style(cell.style)
            own = [
                Segment(segment.text, style + (segment.style or Style.null()) + (over or Style.null()))
                for segment in cell.render(self.app.console, end="")
            ]
            fitted = Strip(own).adjust_cell_length(width, background)
            pieces += [Segment(" ", background), *fitted, Segment(" ", background)]
        return Strip(pieces).adjust_cell_length(self.size.width, background)

    def _layout(self) -> list[tuple[Column, int]]:
        columns = [column for column in self._columns if column.wide <= self.size.width]
        left = self.size.width - 2 * len(columns) - sum(column.width for column in columns)
        share = max(8, left // max(1, sum(not column.width for column in columns)))
        return [(column, column.width or share) for column in columns]
