"""The runs of the home, the newest first, with filters, a live tail, and a look at the run under the cursor."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widgets import Input, Static

from ..records import OutcomeLabel, Purpose, RunStatus
from ..store import RunFilter
from ..store.rows import RunRow
from .cells import clock, line, many, outcome_of, short, verdict
from .labelling import LABEL_KEYS, labels_of, looked_at
from .lists import Column, Rows
from .look import PAGE
from .picking import ANY, WAITS, Chip, Picker
from .run_nodes import overview
from .theme import Palette
from .view import View, ask, look_of, palette, tell
from .wishes import OpenRun

_COLUMNS = (
    Column("", 1),
    Column("time (UTC)", 11),
    Column("outcome", 11),
    Column("run", 8, wide=86),
    Column("purpose", 8, wide=92),
    Column("model", 14, wide=120),
    Column("steps", 5),
    Column("tools", 14),
    Column("prompt", 0),
    Column("answer", 0, wide=130),
)
_CHIPS = {"tool": "t", "outcome": "o", "status": "s", "model": "m", "purpose": "p"}
_PREVIEW_FROM = 150
"""Columns from which the run under the cursor is shown beside the list."""

_FILTERED = "no run is like that: x clears the filters"
_NOTHING = 'nothing yet: koboshi run "PROMPT"; tui --sample shows some'

_SETTLED_S = 0.08
"""How long the cursor rests, or a word is not typed on, before something is read."""


class RunsView(View):
    """Runs with filters and live tail."""

    title = "Runs"
    about = "Every run that is recorded, the newest first. New ones appear by themselves while you are at the top."
    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter", "open", "open", show=False, tooltip="open the run"),
        Binding("slash", "search", "search", tooltip="runs that hold all of some words"),
        *(
            Binding(key, f"pick('{name}')", name, show=name in ("tool", "outcome"), tooltip=f"only runs of one {name}")
            for name, key in _CHIPS.items()
        ),
        Binding("x,escape", "clear", "clear filters", show=False, tooltip="all runs again"),
        *LABEL_KEYS,
        Binding("space", "mark", "mark", show=False, tooltip="mark the run, to hold it beside another"),
        Binding("d", "diff", "diff", tooltip="hold the marked run, or the last one of the same task, beside this"),
        Binding("l", "live", "live", tooltip="hold the list still, or let new runs appear"),
    ]

    def __init__(self) -> None:
        super().__init__(id="runs")
        self.listed: list[RunRow] = []
        self.wanted = RunFilter(limit=PAGE)
        self.live = True
        self.marked: str | None = None
        self._cells: dict[str, tuple[RunRow, list[Text]]] = {}
        self._looks: tuple[object, ...] = ()
        self._whole = True
        self._more = False
        self._previewed: RunRow | None = None
        self._resting: Timer | None = None
        self._typing: Timer | None = None

    def compose(self) -> ComposeResult:
        """Lay out filters, list, preview and what the list holds."""
        with Horizontal(classes="filters"):
            yield Input(placeholder="/ search", compact=True, id="text")
            for name, key in _CHIPS.items():
                yield Chip(name, key)
        with Horizontal(classes="body"):
            yield Rows(_COLUMNS, widget_id="runs-list")
            with VerticalScroll(id="preview", can_focus=False):
                yield Static(id="preview-text")
        yield Static(id="runs-status", classes="status")

    def take_focus(self) -> None:
        """Put the keys on the list."""
        self.query_one(Rows).focus()

    async def reload(self) -> None:
        """Read the first page anew."""
        wanted = self.wanted
        page = await ask(self, look_of(self).runs, wanted)
        # A slower answer to an older question must not take the place of a newer one.
        if page is not None and wanted is self.wanted:
            self.listed, self._whole = page.rows, page.whole
            self._more = len(page.rows) == PAGE
            self._draw()

    async def changed(self) -> None:
        """Put what is new before what is there."""
        if not self.live:
            return
        wanted = self.wanted
        page = await ask(self, look_of(self).runs, wanted)
        if page is None or wanted is not self.wanted:
            return
        kept = _older(self.listed, page.rows[-1].run_id) if len(page.rows) == PAGE else []
        self._whole = page.whole
        if (rows := [*page.rows, *kept]) != self.listed:
            self.listed = rows
            self._draw()

    def _draw(self) -> None:
        rows, styles = self.query_one(Rows), palette(self)
        widths = {name: rows.width_of(name) for name in ("prompt", "answer", "tools", "model")}
        looks = (*widths.values(), self.app.theme, self.marked)
        kept = self._cells if looks == self._looks else {}
        self._looks, self._cells = looks, {}
        for row in self.listed:
            known = kept.get(row.run_id)
            made = known[1] if known and known[0] == row else _cells(row, widths, styles, row.run_id == self.marked)
            self._cells[row.run_id] = (row, made)
        rows.fill([(run_id, cells) for run_id, (_, cells) in self._cells.items()])
        self.query_one("#runs-status", Static).update(self._status(styles))
        self.query_one("#preview").display = self.size.width >= _PREVIEW_FROM
        self._look_closer()

    def _status(self, styles: Palette) -> Text:
        shown = Text.assemble(("● live ", styles.good) if self.live else ("‖ held ", styles.warn))
        shown.append(f"· {many(len(self.listed), 'run')}{', more below' if self._more else ''}", styles.quiet)
        if not self._whole:
            shown.append(" · the text was looked for in its newest 5,000 places only", styles.warn)
        if not self.listed:
            shown.append(f" · {_FILTERED if _filtered(self.wanted) else _NOTHING}", styles.warn)
        return shown

    @on(Rows.Highlighted)
    def _look_closer(self) -> None:
        if self.size.width >= _PREVIEW_FROM and self._here() != self._previewed:
            self._resting = self._later(self._resting, self._preview)

    @on(Rows.NearEnd)
    def _near_end(self) -> None:
        if self._more:
            self._load_more()

    @on(Rows.Selected)
    def _chosen(self) -> None:
        self.action_open()

    @on(Rows.Resized)
    def _resized(self) -> None:
        self._draw()

    @on(Chip.Pressed)
    def _pressed(self, event: Chip.Pressed) -> None:
        self.action_pick(event.name)

    @on(Input.Changed, "#text")
    def _typed(self) -> None:
        self._typing = self._later(self._typing, self._search)

    @on(Input.Submitted, "#text")
    def _searched(self) -> None:
        self.take_focus()

    def _later(self, before: Timer | None, action: Callable[[], Any]) -> Timer:
        if before is not None:
            before.stop()
        return self.set_timer(_SETTLED_S, action)

    def _search(self) -> None:
        text = self.query_one("#text", Input).value.strip()
        self._want(text=text or None)

    def _want(self, **changes: Any) -> None:
        self.wanted = RunFilter.model_validate(self.wanted.model_dump() | changes)
        self._reload_here()

    @work(exclusive=True, group="runs")
    async def _reload_here(self) -> None:
        await self.reload()

    @work(exclusive=True, group="more")
    async def _load_more(self) -> None:
        wanted = self.wanted
        page = await ask(self, look_of(self).runs, wanted.model_copy(update={"before": self.listed[-1].run_id}))
        if page is not None and wanted is self.wanted:
            self.listed = [*self.listed, *page.rows]
            self._more = len(page.rows) == PAGE
            self._draw()

    @work(exclusive=True, group="preview")
    async def _preview(self) -> None:
        # Noted before it is read: a run that cannot be read is told of once, not at every change of the list.
        row = self._previewed = self._here()
        run = await ask(self, look_of(self).store.trajectory, row.run_id) if row else None
        if run is not None or row is None:
            self.query_one("#preview-text", Static).update(overview(run, palette(self)) if run else "")

    def _here(self) -> RunRow | None:
        key = self.query_one(Rows).key
        return self._cells[key][0] if key in self._cells else None

    @work(group=WAITS)
    async def action_pick(self, name: str) -> None:
        """Choose a value of one filter."""
        chip = self.query_one(f"#chip-{name}", Chip)
        choices = await ask(self, self._choices, name)
        if choices is None:
            return
        picked = await self.app.push_screen_wait(Picker(name, choices, chip.value))
        if picked is not None:
            chip.choose(None if picked == ANY else picked)
            self._want(**{name: chip.value})

    def _choices(self, name: str) -> Sequence[str]:
        fixed = {"outcome": OutcomeLabel, "status": RunStatus, "purpose": Purpose}
        if name in fixed:
            return [each.value for each in fixed[name]]
        return look_of(self).tools() if name == "tool" else look_of(self).models()

    def action_search(self) -> None:
        """Type words that must all occur."""
        self.query_one("#text", Input).focus()

    def action_clear(self) -> None:
        """Show all runs again, and give the keys back to the list."""
        self.take_focus()
        with self.prevent(Input.Changed):
            self.query_one("#text", Input).value = ""
        for chip in self.query(Chip):
            chip.choose(None)
        if _filtered(self.wanted):
            self.wanted = RunFilter(limit=PAGE)
            self._reload_here()

    def action_open(self) -> None:
        """Show the run under the cursor whole."""
        if run_id := self.query_one(Rows).key:
            self.post_message(OpenRun(run_id))

    def action_mark(self) -> None:
        """Mark the run under the cursor, to hold it beside another."""
        run_id = self.query_one(Rows).key
        self.marked = None if run_id == self.marked else run_id
        self._draw()

    def action_diff(self) -> None:
        """Hold the marked run beside the one under the cursor; without a mark, beside the last one of its task."""
        here = self._here()
        if here is None:
            return
        same = [row.run_id for row in self.listed if row.prompt == here.prompt and row.run_id != here.run_id]
        other = self.marked or next(iter(same), None)
        if other is None or other == here.run_id:
            tell(self, "No other run of this task is listed. Space marks one to hold beside it.", severity="warning")
        else:
            self.post_message(OpenRun(other, beside=here.run_id))

    def action_live(self) -> None:
        """Let new runs appear, or hold the list still."""
        self.live = not self.live
        self._reload_here()

    async def action_label(self, label: str) -> None:
        """Label the run under the cursor."""
        run_id = self.query_one(Rows).key
        if run_id and looked_at(self) and await labels_of(self).give(self, run_id, label):
            await self.reload()

    async def action_take_back(self) -> None:
        """Take the last label back."""
        if await labels_of(self).take_back(self):
            await self.reload()


def _cells(row: RunRow, widths: dict[str, int], styles: Palette, marked: bool) -> list[Text]:
    return [
        Text("◆" if marked else " ", styles.warn),
        Text(clock(row.created_at), styles.quiet),
        verdict(outcome_of(row), styles),
        Text(short(row.run_id), styles.quiet),
        Text(row.purpose, styles.quiet),
        line(row.model, widths["model"] or 14, styles.quiet),
        Text(f"{row.steps:>5}"),
        line(", ".join(row.tools), widths["tools"], styles.name),
        line(row.prompt, widths["prompt"]),
        line(row.answer or "", widths["answer"] or 8, styles.quiet),
    ]


def _older(rows: Sequence[RunRow], run_id: str) -> list[RunRow]:
    """Return the rows behind `run_id`; none if it is not among them."""
    places = [place for place, row in enumerate(rows) if row.run_id == run_id]
    return list(rows[places[0] + 1 :]) if places else []


def _filtered(wanted: RunFilter) -> bool:
    return wanted != RunFilter(limit=PAGE)
