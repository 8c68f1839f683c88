"""The logged calls with what was decided about each, for who looks at policies and not at runs.

What no policy decided is left out: a function that a task brought and nobody could execute, and calls of imported runs.
"""

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from koboshi_policies.decision import Decision
from koboshi_policies.replay import LoggedCall
from koboshi_tools import Frozen, ToolCall

from .codecs import unpack_json, unpack_text
from .read import read_decision
from .store import Store

_DECIDED = """
SELECT c.run_id, c.step_index, c.tool, c.arguments, c.intent_at, r.purpose, d.verdict, d.reason, d.rule, d.file, d.line,
  d.layer, d.arguments AS made_arguments, d.asked, s.verdict AS shadow_verdict, s.reason AS shadow_reason,
  s.rule AS shadow_rule, s.file AS shadow_file, s.line AS shadow_line, s.layer AS shadow_layer,
  s.arguments AS shadow_made_arguments, NULL AS shadow_asked
FROM tool_calls c JOIN runs r USING (run_id)
JOIN decisions d ON d.decision_id = (SELECT max(decision_id) FROM decisions WHERE call_id = c.call_id)
LEFT JOIN shadow_decisions s ON s.call_id = c.call_id
WHERE c.intent_at >= ? AND NOT (c.tool_digest IS NULL AND c.transport IS 'not_executed') AND r.imported IS NULL
"""


class ShadowedCall(Frozen):
    """A call with the decision that held and the one that a policy in shadow mode would have made."""

    run_id: str
    step_index: int
    call: ToolCall
    held: Decision
    shadow: Decision


def logged_calls(store: Store, since: str | None = None) -> Iterator[LoggedCall]:
    """Yield every call that a policy decided, in the order of writing; `since` is ISO 8601 in UTC."""
    with store.reading() as db:
        for row in db.execute(f"{_DECIDED} ORDER BY c.call_id", (since or "",)):
            yield LoggedCall(
                run_id=row["run_id"],
                step_index=row["step_index"],
                purpose=row["purpose"],
                at=datetime.fromisoformat(row["intent_at"]).timestamp(),
                call=_call(row),
                decision=read_decision(row),
            )


def shadowed_calls(store: Store, since: str | None = None) -> list[ShadowedCall]:
    """Return every call that was also decided in shadow mode, in the order of writing."""
    with store.reading() as db:
        rows = db.execute(f"{_DECIDED} AND s.verdict NOT NULL ORDER BY c.call_id", (since or "",)).fetchall()
    return [
        ShadowedCall(
            run_id=row["run_id"],
            step_index=row["step_index"],
            call=_call(row),
            held=read_decision(row),
            shadow=read_decision(row, "shadow_"),
        )
        for row in rows
    ]


def _call(row: sqlite3.Row) -> ToolCall:
    return ToolCall(name=unpack_text(row["tool"]), arguments=unpack_json(row["arguments"]))
