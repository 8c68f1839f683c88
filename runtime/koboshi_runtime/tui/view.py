"""What all views share: they load without blocking the screen, and tell errors instead of dying of them.

A view reads in a thread, so that a slow disk never holds up a key, and draws in the loop. `changed` is called at most
once a second, and only after something was written.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from textual.containers import Vertical
from textual.widget import Widget

from koboshi_tools import KoboshiError

from ..text import plain
from .theme import Palette, palette_of

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from .app import KoboshiApp
    from .look import Look

_SHARE = 0.02
"""The part of one processor that following others may take: agents write on the same machine."""

_LONGEST_S = 10.0
"""The longest that is waited for that."""

P = ParamSpec("P")
T = TypeVar("T")


def look_of(widget: Widget) -> "Look":
    """Return what the application looks at."""
    return cast("KoboshiApp", widget.app).look


def palette(widget: Widget) -> Palette:
    """Return the styles of the present theme."""
    return palette_of(widget.app.theme)


async def ask(widget: Widget, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return the answer of a function that may block.

    None is returned where an error of koboshi's was shown, or the widget is gone by now.
    """
    try:
        answer = await asyncio.to_thread(question, *args, **kwargs)
        return answer if widget.is_attached and widget.app.is_running else None
    except KoboshiError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        tell(widget, f"{error}{hint}", severity="error")
        return None


def tell(widget: Widget, text: str, *, severity: "SeverityLevel" = "information") -> None:
    """Show a message for some seconds; nothing in it is markup."""
    widget.app.notify(plain(text, keep_lines=True, width=400), severity=severity, markup=False, timeout=4)


class View(Vertical):
    """One of the numbered views. `title` is its name in the bar, `about` a line for the help."""

    title = ""
    about = ""
    patience_s = 0.0
    """How long what is shown may be old while somebody writes: what is dear to read is read less often."""

    read_at = 0.0
    """When it was read last, by the clock that never goes back."""

    used_at = 0.0
    """How much processor time this process had taken by then."""

    stale = False
    """Whether something was written since."""

    async def reload(self) -> None:
        """Read and draw everything anew."""

    async def changed(self) -> None:
        """Show what was written since the last time."""
        await self.reload()

    async def follow(self, written: bool) -> None:
        """Do `changed` if something was written since it was read, but not more often than may be."""
        self.stale = self.stale or written
        dear = min(_LONGEST_S, (time.process_time() - self.used_at) / _SHARE)
        if self.stale and time.monotonic() - self.read_at >= max(self.patience_s, dear):
            self.stale, self.read_at, self.used_at = False, time.monotonic(), time.process_time()
            await self.changed()

    def take_focus(self) -> None:
        """Give the focus to the part that the keys are for."""
