"""How tools did: calls by tool, version and model, what came of them, and how the runs ended that made them."""

import sqlite3

from koboshi_tools import Frozen

from .codecs import unpack_optional, unpack_text

_SINCE = "(SELECT coalesce(max(call_id) - :newest, 0) FROM tool_calls)"

_TOOLS = f"""
SELECT tool, tool_version, model, count(*) AS calls, sum(transport IS 'ok' AND tool_verdict IS NOT 'error') AS fine,
  sum(transport IS 'denied') AS denied, sum(transport IS 'invalid') AS invalid, sum(transport IS 'timeout') AS timeout,
  sum(transport IS NULL) AS in_doubt, sum(transport IS 'not_executed') AS not_executed,
  avg(seconds) AS seconds, max(effect) AS effect, max(intent_at) AS last_at,
  count(DISTINCT CASE WHEN label IN ('success', 'failure') THEN id END) AS judged,
  count(DISTINCT CASE WHEN label = 'success' THEN id END) AS succeeded
FROM (
  SELECT c.tool, c.tool_version, coalesce(m.name, r.model_hash) AS model, c.transport, c.tool_verdict, c.seconds,
    c.effect, c.intent_at, r.id, (SELECT v.label FROM verdicts v WHERE v.id = r.id) AS label
  FROM tool_calls c JOIN runs r USING (run_id) LEFT JOIN models m USING (model_hash)
  WHERE c.call_id > {_SINCE}
) GROUP BY tool, tool_version, model ORDER BY tool, tool_version, max(id) DESC
"""


class ToolRow(Frozen):
    """One tool in one version as one model used it.

    `fine` counts calls that were carried out and that the tool itself did not call an error; `not_executed` those that
    are only recorded and cannot have gone well or wrong. `judged` and `succeeded` are runs. `seconds` is the mean of a
    call.
    """

    tool: str
    version: str | None
    model: str
    effect: str | None
    calls: int
    fine: int
    denied: int
    invalid: int
    timeout: int
    in_doubt: int
    not_executed: int
    seconds: float | None
    judged: int
    succeeded: int
    last_at: str

    @property
    def attempted(self) -> int:
        """How many calls could go well."""
        return self.calls - self.not_executed


def tool_rows(db: sqlite3.Connection, newest: int | None = None) -> list[ToolRow]:
    """Return how tools did in the `newest` calls or all, by tool, version and model, the last used model first."""
    return [
        ToolRow(
            **{name: row[name] for name in ToolRow.model_fields if name not in ("tool", "version", "model")},
            tool=unpack_text(row["tool"]),
            version=unpack_optional(row["tool_version"]),
            model=unpack_text(row["model"]),
        )
        for row in db.execute(_TOOLS, {"newest": newest})
    ]
