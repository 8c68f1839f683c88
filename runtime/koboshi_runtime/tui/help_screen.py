"""The help: what is seen here, and every key of this place, as a list that can be scrolled."""

from collections.abc import Iterable

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from .view import palette

_NAMES = {
    "slash": "/",
    "question_mark": "?",
    "space": "Space",
    "enter": "Enter",
    "escape": "Esc",
    "tab": "Tab",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "home": "Home",
    "end": "End",
    "plus": "+",
    "minus": "-",
}


class HelpScreen(ModalScreen[None]):
    """Shows `about` and the keys; any of Escape, `q` and `?` closes it."""

    BINDINGS = [("escape,q,question_mark", "leave", "close"), ("j", "scroll(1)", "down"), ("k", "scroll(-1)", "up")]

    def __init__(self, title: str, about: str, groups: Iterable[tuple[str, Iterable[BindingType]]]) -> None:
        super().__init__()
        self._title, self._about = title, about
        self._groups = [(name, list(keys)) for name, keys in groups]

    def compose(self) -> ComposeResult:
        """Lay the help over the screen."""
        with VerticalScroll(classes="dialog help"):
            yield Static(self._text())

    def _text(self) -> Text:
        styles = palette(self)
        shown = Text.assemble((self._title, styles.strong)).append(f"\n{self._about}\n")
        for name, keys in self._groups:
            shown.append(f"\n{name}\n", styles.strong)
            for binding in keys:
                assert isinstance(binding, Binding)
                shown.append(f"{spelt(binding.key):>12}  ", styles.warn).append(
                    f"{binding.tooltip or binding.description}\n"
                )
        shown.append("\n✓ success  ✗ failure  ? unknown  ▸ running\n", styles.quiet)
        return shown.append("What each key does, the command line does too: docs/how-to/use-the-tui.md", styles.quiet)

    def action_leave(self) -> None:
        """Close the help."""
        self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Scroll by a line."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def spelt(key: str) -> str:
    """Return how a key is written on a keyboard."""
    return ", ".join(_NAMES.get(each, each) for each in key.split(","))
