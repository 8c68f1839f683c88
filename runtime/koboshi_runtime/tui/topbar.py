"""The first line of the screen: the views with their numbers, how many things wait in each, and which model is live."""

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from .cells import line
from .view import palette

_ROOMY = 100
"""Columns from which the bar also names the live model."""


class Entry(Static):
    """One view in the bar; a click opens it."""

    @dataclass
    class Pressed(Message):
        """Somebody wants this view."""

        view_id: str

    def __init__(self, number: int, view_id: str, title: str) -> None:
        super().__init__(classes="entry", id=f"entry-{view_id}")
        self._number, self.view_id, self._title = number, view_id, title
        self.waiting = 0

    def on_mount(self) -> None:
        """Show the number and the title."""
        self.draw()

    def draw(self) -> None:
        """Show the number, the title, and how many things wait."""
        styles = palette(self)
        shown = Text(f"{self._number} {self._title}")
        if self.waiting:
            # On the colour of the place where one is, only the text's own can be read.
            shown.append(f" {self.waiting}", "" if self.has_class("-here") else styles.warn)
        self.update(shown)

    def on_click(self) -> None:
        """Open the view."""
        self.post_message(self.Pressed(self.view_id))


class TopBar(Horizontal):
    """The bar."""

    def __init__(self, views: list[tuple[str, str]], *, sample: bool) -> None:
        super().__init__(id="topbar")
        self._views, self._sample = views, sample

    def compose(self) -> ComposeResult:
        """Lay out the views."""
        if self._sample:
            yield Static(Text("SAMPLE"), id="sample-mark")
        for number, (view_id, title) in enumerate(self._views, start=1):
            yield Entry(number, view_id, title)
        yield Static(id="live-model")

    def on_resize(self) -> None:
        """Stand closer together where there is little room."""
        self.set_class(self.size.width < _ROOMY, "-narrow")

    def stand_at(self, view_id: str) -> None:
        """Mark the view that is shown."""
        for entry in self.query(Entry):
            entry.set_class(entry.view_id == view_id, "-here")
            entry.draw()

    def count(self, view_id: str, waiting: int) -> None:
        """Show how many things wait in a view."""
        for entry in self.query(Entry):
            if entry.view_id == view_id and entry.waiting != waiting:
                entry.waiting = waiting
                entry.draw()

    def show_model(self, name: str) -> None:
        """Show which model is live."""
        for place in self.query("#live-model").results(Static):
            place.update(line(name, 30, palette(self).quiet))
