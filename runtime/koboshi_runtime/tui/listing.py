"""A view that is a list with the text of its row beside or below it: what the queue, tools, models and nights share."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from .lists import Column, Rows
from .view import View, ask, palette

Row = TypeVar("Row")

_WIDE = 140
"""Columns from which the text stands beside the list, and not below it."""


class Listing(View, Generic[Row]):
    """A list and a text. A view says how its rows are read (`read`), named, drawn, and told about at length."""

    columns: Sequence[Column] = ()
    empty = "nothing here yet"

    def __init__(self, widget_id: str) -> None:
        super().__init__(id=widget_id)
        self.found: list[Row] = []

    def read(self) -> list[Row]:
        """Return the rows; may block."""
        raise NotImplementedError

    def key_of(self, row: Row) -> str:
        """Return what names a row through every refresh."""
        raise NotImplementedError

    def cells(self, row: Row, rows: Rows) -> list[Text]:
        """Return a cell for each of the columns."""
        raise NotImplementedError

    def told(self, row: Row) -> Text:
        """Return the text about a row."""
        raise NotImplementedError

    def status(self) -> Text:
        """Return the line below the list."""
        return Text(self.empty if not self.found else f"{len(self.found)} rows")

    def compose(self) -> ComposeResult:
        """Lay out list, text and the line below."""
        with Container(classes="body split"):
            yield Rows(self.columns, widget_id=f"{self.id}-list")
            with VerticalScroll(classes="about"):
                yield Static(classes="about-text")
        yield Static(classes="status")

    def take_focus(self) -> None:
        """Put the keys on the list."""
        self.query_one(Rows).focus()

    async def reload(self) -> None:
        """Read and draw anew, where anything changed."""
        found = await ask(self, self.read)
        if found is not None:
            self.found = found
            self.draw()

    def draw(self) -> None:
        """Show the rows, and the text about the one under the cursor."""
        self.query_one(".split").set_class(self.app.size.width >= _WIDE, "-wide")
        rows = self.query_one(Rows)
        rows.fill([(self.key_of(row), self.cells(row, rows)) for row in self.found])
        self.query_one(".status", Static).update(self.status())
        self._tell()

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        key = self.query_one(Rows).key
        return next((row for row in self.found if self.key_of(row) == key), None)

    @on(Rows.Resized)
    def _resized(self) -> None:
        self.draw()

    @on(Rows.Highlighted)
    def _moved(self) -> None:
        self._tell()

    @work(exclusive=True, group="tell")
    async def _tell(self) -> None:
        row = self.chosen
        text = Text(self.empty, palette(self).quiet) if row is None else await ask(self, self.told, row)
        if text is not None:
            self.query_one(".about-text", Static).update(text)
