"""A list of rows under their columns that fills its width, keeps its place, and moves with `j` and `k` too."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `width` cells; 0 shares what is left. It is shown where the list has at least `wide` cells."""

    title: str
    width: int
    wide: int = 0


class Rows(DataTable[Text]):
    """The list. `key` names a row through every refresh; the cursor stays on its row while others come before it."""

    BINDINGS = [
        Binding("j,down", "cursor_down", "down", show=False),
        Binding("k,up", "cursor_up", "up", show=False),
        Binding("g,home", "scroll_top", "first", show=False),
        Binding("G,end", "scroll_bottom", "last", show=False),
    ]

    @dataclass
    class Resized(Message):
        """The width changed, and with it which columns there are."""

        rows: "Rows"

        @property
        def control(self) -> "Rows":
            """The list itself."""
            return self.rows

    def __init__(self, columns: Sequence[Column], *, widget_id: str) -> None:
        super().__init__(id=widget_id, cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._wanted = tuple(columns)
        self._laid_out = 0

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor, or None in an empty list."""
        if not self.row_count:
            return None
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)

    def shown(self) -> list[int]:
        """Return which of the columns there is room for, by their number."""
        return [number for number, column in enumerate(self._wanted) if column.wide <= self.size.width]

    def width_of(self, title: str) -> int:
        """Return how many cells the column `title` has."""
        return self._widths().get(title, 0)

    def fill(self, rows: Sequence[tuple[str, Sequence[Text]]]) -> None:
        """Show these rows, each a key and a cell for each of the columns; the cursor stays on its row.

        Before there is a width nothing is shown; `Resized` asks for the rows once there is one.
        """
        if not self.size.width:
            return
        kept, top = self.key, self.cursor_row == 0
        offset = self.scroll_y
        self.clear(columns=True)
        widths = self._widths()
        numbers = self.shown()
        for number in numbers:
            title = self._wanted[number].title
            self.add_column(Text(title), width=widths[title], key=title)
        for key, cells in rows:
            self.add_row(*(cells[number] for number in numbers), key=key)
        self._laid_out = self.size.width
        if kept is not None and not top and kept in {key for key, _ in rows}:
            self.move_cursor(row=self.get_row_index(kept), scroll=False)
            self.scroll_to(y=offset, animate=False, force=True)

    def on_resize(self, _: events.Resize) -> None:
        """Ask for the rows again where the columns no longer fit."""
        if self.size.width != self._laid_out:
            self.post_message(self.Resized(self))

    def _widths(self) -> dict[str, int]:
        columns = [self._wanted[number] for number in self.shown()]
        padding = 2 * self.cell_padding * len(columns)
        scrollbar = 2
        left = self.size.width - padding - scrollbar - sum(column.width for column in columns)
        sharing = [column for column in columns if not column.width]
        share = max(8, left // max(1, len(sharing)))
        return {column.title: column.width or share for column in columns}
