"""The queue: ended runs that nobody judged, those whose label says the most first, each with the reasons why."""

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding

from ..store.rows import QueueRow
from .cells import clock, line, short
from .labelling import LABEL_KEYS, labels_of, looked_at
from .listing import Listing
from .lists import Column, Rows
from .run_nodes import overview
from .view import look_of, palette
from .wishes import OpenRun

_MOST = 200


class QueueView(Listing[QueueRow]):
    """Runs that wait for a label. A label is one key; the next run moves up."""

    title = "Queue"
    about = "Ended runs that nobody judged, the most informative first, and why. One key labels; z takes it back."
    columns = (
        Column("worth", 5),
        Column("why", 0),
        Column("run", 8, wide=100),
        Column("time (UTC)", 11, wide=110),
        Column("prompt", 0),
        Column("answer", 0, wide=70),
    )
    empty = "no run waits for a label"
    patience_s = 10.0
    BINDINGS: ClassVar[list[Any]] = [Binding("enter", "open", "open"), *LABEL_KEYS]

    def __init__(self) -> None:
        super().__init__("queue")
        self.left = 0

    def read(self) -> list[QueueRow]:
        """Read the head of the queue."""
        store = look_of(self).store
        self.left = store.count_unlabelled()
        return store.label_queue(_MOST)

    def key_of(self, row: QueueRow) -> str:
        """Return the run's id."""
        return row.run_id

    def cells(self, row: QueueRow, rows: Rows) -> list[Text]:
        """Return the cells of a run."""
        styles = palette(self)
        return [
            Text(f"{row.score:5.2f}", styles.warn),
            line("; ".join(row.reasons[:2]), rows.width_of("why"), styles.name),
            Text(short(row.run_id), styles.quiet),
            Text(clock(row.created_at), styles.quiet),
            line(row.prompt, rows.width_of("prompt")),
            line(row.answer or "", rows.width_of("answer"), styles.quiet),
        ]

    def told(self, row: QueueRow) -> Text:
        """Return the reasons, and what the run did."""
        styles = palette(self)
        shown = Text()
        for reason in row.reasons:
            shown.append("· ", styles.warn).append_text(line(reason)).append("\n")
        run = look_of(self).store.trajectory(row.run_id)
        return shown.append("\n").append_text(overview(run, styles))

    def status(self) -> Text:
        """Return how many wait."""
        if not self.found:
            return Text(self.empty)
        return Text(f"{self.left} wait; the best {len(self.found)} are shown. y it did what was asked, n it did not")

    @on(Rows.Selected)
    def action_open(self) -> None:
        """Show the run whole."""
        if (row := self.chosen) is not None:
            self.post_message(OpenRun(row.run_id))

    async def action_label(self, label: str) -> None:
        """Label the run under the cursor; the next one comes under it."""
        row = self.chosen
        if row is not None and looked_at(self) and await labels_of(self).give(self, row.run_id, label):
            await self.reload()

    async def action_take_back(self) -> None:
        """Take the last label back; its run is in the queue again."""
        if await labels_of(self).take_back(self):
            await self.reload()
