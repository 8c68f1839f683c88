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

from .approvals_view import ApprovalsView
from .diff_screen import DiffScreen
from .help_screen import HelpScreen
from .labelling import Labels
from .look import Changes, Look
from .models_view import ModelsView
from .nights_view import NightsView
from .policy_view import ExplainCall, PolicyView
from .queue_view import QueueView
from .run_screen import RunScreen
from .runs_view import OpenRun, RunsView
from .theme import DARK, LIGHT, THEMES
from .tools_view import ToolsView
from .topbar import Entry, TopBar
from .view import View, ask, tell

VIEWS: tuple[type[View], ...] = (
    RunsView,
    QueueView,
    ApprovalsView,
    ToolsView,
    ModelsView,
    NightsView,
    PolicyView,
)

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
        self._views: list[View] = [view() for view in VIEWS]
        self._here = self._views[0]
        self._waiting: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        """Lay out bar, view and keys; a view is made when it is first looked at."""
        yield TopBar([(str(view.id), view.title) for view in self._views], sample=self.look.sample)
        yield Container(id="views")
        yield Footer(compact=True, show_command_palette=False)

    async def on_mount(self) -> None:
        """Show the first view, and begin to watch."""
        await self.go_to(self._here)
        self.set_interval(_TICK_S, self._tick)
        self._count()

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
        self._count()

    @work(exclusive=True, group="count")
    async def _count(self) -> None:
        """Show what waits, and ring when a new question came."""
        bar = self.screen_stack[0].query_one(TopBar)
        waiting = await ask(bar, self.look.waiting)
        if waiting is None:
            return
        if self._waiting and waiting["approvals"] > self._waiting["approvals"]:
            self.bell()
            tell(bar, "An agent asks for permission: 3 shows it.", severity="warning")
        self._waiting = waiting
        for view_id, number in waiting.items():
            bar.count(view_id, number)
        if model := await ask(bar, self.look.live_model):
            bar.show_model(model)

    @on(OpenRun)
    def _open(self, event: OpenRun) -> None:
        beside = event.beside
        self.push_screen(RunScreen(event.run_id) if beside is None else DiffScreen(event.run_id, beside))

    @on(ExplainCall)
    async def _explain(self, event: ExplainCall) -> None:
        view = next(view for view in self._views if isinstance(view, PolicyView))
        await self.go_to(view)
        view.explain(event.call)

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
        own = self.screen if isinstance(self.screen, RunScreen | DiffScreen) else self._here
        title = getattr(own, "title", None) or "Run"
        self.push_screen(HelpScreen(title, own.about, [("Here", own.BINDINGS), ("Everywhere", self.BINDINGS)]))
