"""Labels by one key, and the key that takes the last one back; the same in every view that shows runs."""

from typing import TYPE_CHECKING, cast

from textual.binding import Binding, BindingType
from textual.widget import Widget

from ..records import OutcomeLabel
from .lists import Rows
from .view import ask, look_of, tell

if TYPE_CHECKING:
    from .app import KoboshiApp

LABEL_KEYS: list[BindingType] = [
    Binding("y", "label('success')", "success", tooltip="success: it did what was asked"),
    Binding("n", "label('failure')", "failure", tooltip="failure: it did not"),
    Binding("u", "label('unknown')", "can't tell", show=False, tooltip="unknown: nobody can tell"),
    Binding("z", "take_back", "undo", tooltip="take the last label back"),
]
"""What a person says of the run under the cursor: yes it did what was asked, no it did not, nobody can tell."""


def looked_at(widget: Widget) -> bool:
    """Return whether the row under the cursor can be seen; where it cannot, show it and say that it comes first."""
    if widget.query_one(Rows).in_sight():
        return True
    tell(widget, "The row under the cursor was out of sight: look at it, then press again.", severity="warning")
    return False


def labels_of(widget: Widget) -> "Labels":
    """Return the labels given in this application."""
    return cast("KoboshiApp", widget.app).labels


class Labels:
    """The labels given since the application began, the last one on top."""

    def __init__(self) -> None:
        self._given: list[str] = []

    async def give(self, widget: Widget, run_id: str, label: str) -> bool:
        """Label a run; True if it is stored. Says so where a checker's verdict counts nevertheless."""
        counts = await ask(widget, look_of(widget).label, run_id, OutcomeLabel(label))
        if counts is None:
            return False
        self._given.append(run_id)
        cast("KoboshiApp", widget.app).count_anew()
        beside = "" if counts == label else f"; a check outranks it, {counts} counts"
        tell(widget, f"{run_id[:8]} labelled {label}{beside}. z takes it back.")
        return True

    async def take_back(self, widget: Widget) -> str | None:
        """Take the last label back and return its run, or None if there is none."""
        if not self._given:
            tell(widget, "Nothing was labelled since koboshi tui began.", severity="warning")
            return None
        counts = await ask(widget, look_of(widget).take_back, self._given[-1])
        run_id = self._given.pop()
        if counts is None:
            return None
        cast("KoboshiApp", widget.app).count_anew()
        tell(widget, f"The label of {run_id[:8]} is taken back; {counts} counts.")
        return run_id
