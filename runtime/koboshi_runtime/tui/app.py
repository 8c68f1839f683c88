"""The application: the views under their numbers, one timer that notices what others write, and the keys for all.

Nothing here decides anything: a key calls a function that the command line has too. What agents write meanwhile appears
within a second; the store's readers never hold up its writers.
"""

import time
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widgets import Footer

from .diff_screen import DiffScreen
from .help_screen import HelpScreen
from .labelling import Labels
from .look import Changes, Look
from .picking import Chip
from .run_screen import RunScreen
from .theme import DARK, LIGHT, THEMES
from .topbar import Entry, TopBar
from .view import View, ask, tell
from .wishes import ExplainCall, OpenRun


class Place(NamedTuple):
    """A view: its name in the bar, and where its class lies; it is imported when it is first looked at."""

    view_id: str
    title: str
    kind: str


PLACES = (
    Place("runs", "Runs", "runs_view:RunsView"),
    Place("queue", "Queue", "queue_view:QueueView"),
    Place("approvals", "Approvals", "approvals_view:ApprovalsView"),
    Place("tools", "Tools", "tools_view:ToolsView"),
    Place("models", "Models", "models_view:ModelsView"),
    Place("nights", "Nights", "nights_view:NightsView"),
    Place("policy", "Policy", "policy_view:PolicyView"),
)

_TICK_S = 1.0

_COUNT_S = 30.0
"""How often what waits for a label is counted while agents write: it is a look at every run."""


class KoboshiApp(App[None]):
    """The terminal interface over one home."""

    TITLE = "koboshi"
    CSS_PATH = "koboshi.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        *(Binding(str(n), f"go({n})", place.title, show=False) for n, place in enumerate(PLACES, start=1)),
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
        self._views: dict[str, View] = {}
        self._here = self._view("runs")
        self._bar = TopBar([(place.view_id, place.title) for place in PLACES], sample=look.sample)
        self._questions: int | None = None
        self._counted_at = -_COUNT_S

    def compose(self) -> ComposeResult:
        """Lay out bar, view and keys; a view is made when it is first looked at."""
        yield self._bar
        yield Container(id="views")
        yield Footer(compact=True, show_command_palette=False)

    async def on_mount(self) -> None:
        """Show the first view, and begin to watch."""
        await self.go_to(self._here)
        self.set_interval(_TICK_S, self._tick)
        self._count()

    async def go_to(self, view: View) -> None:
        """Show `view`, made anew from what the store holds now."""
        if not view.is_attached:
            await self.query_one("#views").mount(view)
        self._here = view
        for other in self._views.values():
            other.display = other is view
        self._bar.stand_at(str(view.id))
        view.take_focus()
        await view.reload()

    @work(exclusive=True, group="tick")
    async def _tick(self) -> None:
        if not (self._bar.is_attached and self.is_running):
            return
        written, screen = self._changes.any(), self.screen
        if isinstance(screen, RunScreen) and written:
            await screen.changed()
        elif screen is self.screen_stack[0]:
            await self._here.follow(written)
        if written:
            self._count()

    @work(exclusive=True, group="count")
    async def _count(self) -> None:
        """Show what waits, and ring when a new question came."""
        bar = self._bar
        questions = await ask(bar, self.look.questions)
        if questions is None:
            return
        if self._questions is not None and questions > self._questions:
            self.bell()
            tell(bar, "An agent asks for permission: 3 shows it.", severity="warning")
        self._questions = questions
        bar.count("approvals", questions)
        if time.monotonic() - self._counted_at < _COUNT_S:
            return
        self._counted_at = time.monotonic()
        unlabelled, model = await ask(bar, self.look.store.count_unlabelled), await ask(bar, self.look.live_model)
        bar.count("queue", unlabelled or 0)
        bar.show_model(model or "")

    def count_anew(self) -> None:
        """Count what waits now: a person has just labelled something."""
        self._counted_at = -_COUNT_S
        self._count()

    @on(OpenRun)
    def _open(self, event: OpenRun) -> None:
        beside = event.beside
        self.push_screen(RunScreen(event.run_id) if beside is None else DiffScreen(event.run_id, beside))

    @on(ExplainCall)
    async def _explain(self, event: ExplainCall) -> None:
        from .policy_view import PolicyView

        view = self._view("policy")
        assert isinstance(view, PolicyView)
        await self.go_to(view)
        view.explain(event.call)

    @on(Entry.Pressed)
    async def _pressed(self, event: Entry.Pressed) -> None:
        await self.go_to(self._view(event.view_id))

    async def action_go(self, number: int) -> None:
        """Show the view with this number."""
        await self.go_to(self._view(PLACES[number - 1].view_id))

    def _view(self, view_id: str) -> View:
        if view_id not in self._views:
            place = next(place for place in PLACES if place.view_id == view_id)
            module, _, name = place.kind.partition(":")
            self._views[view_id] = getattr(import_module(f".{module}", __package__), name)()
        return self._views[view_id]

    async def action_reload(self) -> None:
        """Read everything that is shown anew."""
        await self._here.reload()

    async def action_theme(self) -> None:
        """Change between dark and light."""
        self.theme = LIGHT if self.theme == DARK else DARK
        for entry in self.query(Entry):
            entry.draw()
        for chip in self.query(Chip):
            chip.choose(chip.value)
        await self._here.reload()

    def action_help(self) -> None:
        """Explain what is seen, and every key."""
        own = self.screen if isinstance(self.screen, RunScreen | DiffScreen) else self._here
        title = getattr(own, "title", None) or "Run"
        self.push_screen(HelpScreen(title, own.about, [("Here", own.BINDINGS), ("Everywhere", self.BINDINGS)]))
