"""Questions about single calls, as they come, with the whole call; one key grants, another refuses."""

import json
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding

from koboshi_policies import Answer
from koboshi_tools import canonical_json

from ..approvals import Approval, approvals
from ..ids import utc_now
from .cells import block, clock, line, short
from .labelling import looked_at
from .listing import Listing
from .lists import Column, Rows
from .view import ask, look_of, palette, tell
from .wishes import OpenRun

_STATES = {"waiting": "▸ waiting", "unattended": "‖ for next time", "approved": "✓ granted", "used": "✓ used"}


class ApprovalsView(Listing[Approval]):
    """Calls that wait for a person, and those that were refused because nobody was there."""

    title = "Approvals"
    about = (
        "Calls that a rule puts to a person. A run that waits goes on with the answer; a call that was refused while "
    )
    about += "nobody was there can be granted for its next time."
    columns = (
        Column("state", 15),
        Column("asked", 11),
        Column("until", 11, wide=90),
        Column("tool", 14),
        Column("arguments", 0),
        Column("reason", 0, wide=110),
    )
    empty = "no call waits for a person"
    BINDINGS: ClassVar[list[Any]] = [
        Binding("y", "answer('approved')", "grant"),
        Binding("n", "answer('refused')", "refuse"),
        Binding("a", "all", "all/open"),
        Binding("enter", "open", "open the run"),
    ]

    def __init__(self) -> None:
        super().__init__("approvals")
        self.answered = False

    def read(self) -> list[Approval]:
        """Read the open questions, or all."""
        return approvals(look_of(self).store, answered=self.answered)

    def key_of(self, row: Approval) -> str:
        """Return the question's id."""
        return row.approval_id

    def cells(self, row: Approval, rows: Rows) -> list[Text]:
        """Return the cells of a question."""
        styles = palette(self)
        state = row.state(utc_now())
        return [
            Text(_STATES.get(state, f"✗ {state}"), styles.warn if state == "waiting" else styles.quiet),
            Text(clock(row.asked_at), styles.quiet),
            Text(clock(row.expires_at), styles.quiet),
            line(row.call.name, 14, styles.name),
            line(canonical_json(row.call.arguments), rows.width_of("arguments")),
            line(row.reason, rows.width_of("reason") or 8, styles.quiet),
        ]

    def told(self, row: Approval) -> Text:
        """Return the whole call, who asks, and the answer."""
        styles = palette(self)
        shown = Text.assemble((line(row.call.name, None, styles.strong)), f" {line(row.tool_version or '').plain}\n\n")
        shown.append_text(block(json.dumps(row.call.arguments, indent=2, ensure_ascii=False), 20_000)).append("\n\n")
        rows = {
            "reason": row.reason,
            "run": short(row.run_id),
            "asked": f"{clock(row.asked_at)} UTC",
            "until": f"{clock(row.expires_at)} UTC",
            "answer": row.answer.value if row.answer else None,
            "by": row.who,
            "why": row.why,
        }
        for name, value in rows.items():
            if value:
                shown.append(f"{name:>7}  ", styles.quiet).append_text(block(value, 2_000)).append("\n")
        return shown

    def status(self) -> Text:
        """Return how many wait."""
        if not self.found:
            return Text(self.empty)
        return Text(f"{len(self.found)} {'questions' if self.answered else 'can be answered'}; y grants, n refuses")

    async def action_answer(self, answer: str) -> None:
        """Answer the question under the cursor."""
        row = self.chosen
        if row is None or not looked_at(self):
            return
        state = await ask(self, look_of(self).answer, row.approval_id, Answer(answer))
        await self.reload()
        if state is not None:
            tell(self, f"{state}: {row.call.name}")

    async def action_all(self) -> None:
        """Show those that were answered too, or only the open ones."""
        self.answered = not self.answered
        await self.reload()

    @on(Rows.Selected)
    def action_open(self) -> None:
        """Show the run that asks."""
        if (row := self.chosen) is not None:
            self.post_message(OpenRun(row.run_id))
