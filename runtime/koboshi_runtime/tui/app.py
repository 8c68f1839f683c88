"""The application: the views under their numbers, one timer that notices what others write, and the keys for all.

Nothing here decides anything: a key calls a function that the command line has too. What agents write meanwhile appears
within a second; the store's readers never hold up its writers.
"""

from typing import Any, ClassVar

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widgets import Footer

from .help_screen import HelpScreen
from .labelling import Labels
from .look import Changes, Look
from .run_screen import RunScreen
from .runs_view import OpenRun, RunsView
from .theme import DARK, LIGHT, THEMES
from .topbar import Entry, TopBar
from .view import View

VIEWS: tuple[type[View], ...] = (RunsView,)

_TICK_S = 1.0


class KoboshiApp(App[None]):
    """The terminal interface over one home."""

    TITLE = "koboshi"
    CSS_PATH = "koboshi.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        *(Binding(str(n), f"go({n})", view.title, show=False) for n, view in enumerate(VIEWS, start=1)),
        Binding("r", "reload", "read again", show=False),
        Binding("T", "theme", "light or dark", show=False),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, look: Look, *, light: bool = False) -> None:
        super().__init__()
        self.look = look
        self.labels = Labels()
        self._changes = Changes(look.store)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = LIGHT if light else DARK
        self._views = [view() for view in VIEWS]
        self._here = self._views[0]

    def compose(self) -> ComposeResult:
        """Lay out bar, view and keys; a view is made when it is first looked at."""
        yield TopBar([(str(view.id), view.title) for view in self._views], sample=self.look.sample)
        yield Container(id="views")
        yield Footer(compact=True, show_command_palette=False)

    async def on_mount(self) -> None:
        """Show the first view, and begin to watch."""
        await self.go_to(self._here)
        self.set_interval(_TICK_S, self._tick)

    async def go_to(self, view: View) -> None:
        """Show `view`, made anew from what the store holds now."""
        self._here = view
        views = self.query_one("#views")
        for other in self._views:
            other.display = other is view
        if not view.is_attached:
            await views.mount(view)
        self.query_one(TopBar).stand_at(str(view.id))
        view.take_focus()
        await view.reload()

    @work(exclusive=True, group="tick")
    async def _tick(self) -> None:
        if not self._changes.any():
            return
        screen = self.screen
        if isinstance(screen, RunScreen):
            await screen.changed()
        elif screen is self.screen_stack[0]:
            await self._here.changed()

    @on(OpenRun)
    def _open(self, event: OpenRun) -> None:
        self.push_screen(RunScreen(event.run_id))

    @on(Entry.Pressed)
    async def _pressed(self, event: Entry.Pressed) -> None:
        await self.go_to(next(view for view in self._views if view.id == event.view_id))

    async def action_go(self, number: int) -> None:
        """Show the view with this number."""
        await self.go_to(self._views[number - 1])

    async def action_reload(self) -> None:
        """Read everything that is shown anew."""
        await self._here.reload()

    async def action_theme(self) -> None:
        """Change between dark and light."""
        self.theme = LIGHT if self.theme == DARK else DARK
        await self._here.reload()

    def action_help(self) -> None:
        """Explain what is seen, and every key."""
        screen = self.screen
        own, about = (
            (screen, "A run, step by step.") if isinstance(screen, RunScreen) else (self._here, self._here.about)
        )
        title = "Run" if own is screen else self._here.title
        self.push_screen(HelpScreen(title, about, [("Here", own.BINDINGS), ("Everywhere", self.BINDINGS)]))
