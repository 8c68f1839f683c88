"""Choosing one of several words: a chip that shows the choice, and the list that opens over the screen."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from .cells import line
from .view import palette

ANY = "any"
WAITS = "waits"
"""The group of workers that wait until somebody has chosen."""


class Chip(Static):
    """One filter with its key and its value; a click is the key."""

    @dataclass
    class Pressed(Message):
        """Somebody wants to choose."""

        name: str

    def __init__(self, name: str, key: str) -> None:
        super().__init__(id=f"chip-{name}", classes="chip")
        self.what, self._key = name, key
        self.value: str | None = None

    def on_mount(self) -> None:
        """Show that nothing is chosen."""
        self.choose(None)

    def choose(self, value: str | None) -> None:
        """Show `value`, or that any will do."""
        self.value = value
        styles = palette(self)
        named = line(value, 14, styles.strong) if value else Text(self.what, styles.quiet)
        self.update(Text.assemble((self._key, styles.warn), " ", named))
        self.set_class(value is not None, "-chosen")

    def on_click(self, event: events.Click) -> None:
        """Open the choice."""
        event.stop()
        self.post_message(self.Pressed(self.what))


class Picker(ModalScreen[str | None]):
    """A list to choose from; Enter takes, Escape leaves everything as it was (None)."""

    BINDINGS = [("escape", "leave", "leave it"), ("j", "down", "down"), ("k", "up", "up")]

    def __init__(self, what: str, choices: Sequence[str], chosen: str | None) -> None:
        super().__init__()
        self._what, self._choices = what, [ANY, *choices]
        self._chosen = chosen or ANY

    def compose(self) -> ComposeResult:
        """Lay the list over the screen."""
        with Vertical(classes="dialog"):
            yield Static(Text(f"{self._what}: Enter takes, Esc leaves"), classes="dialog-title")
            yield OptionList(*(Option(line(choice, 50)) for choice in self._choices), markup=False)

    def on_mount(self) -> None:
        """Stand on what is chosen now."""
        options = self.query_one(OptionList)
        options.highlighted = self._choices.index(self._chosen) if self._chosen in self._choices else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the choice."""
        self.dismiss(self._choices[event.option_index])

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)

    def action_down(self) -> None:
        """Go down."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """Go up."""
        self.query_one(OptionList).action_cursor_up()
