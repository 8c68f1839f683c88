"""The judged work runs of two models as the store holds them, counted by project and by tool, for the watch."""

import sqlite3
from typing import NamedTuple

from koboshi_policies.sequential import Tally

from .codecs import unpack_text
from .queue import JUDGED

COUNTED = 1000
"""Judged runs that are counted of each side: the last ones before a swap and the first ones after it. Later runs say
more of how work changed than of the swap."""


_LOOKED_AT = 10_000
"""Runs of each side that are looked at for judged ones, so that a store with few labels is not read whole."""


class Group(NamedTuple):
    """The runs of a project, or those of them that called a tool."""

    project: str
    tool: str | None


def count_outcomes(db: sqlite3.Connection, model_hash: str, *, newest: bool) -> dict[Group, Tally]:
    """Return the outcomes of a model's judged work runs: its `newest`, or else its first ones."""
    judged = _judged(newest)
    values = {"model": model_hash, "limit": COUNTED}
    whole = f"WITH judged AS ({judged}) SELECT project, NULL AS tool, {_COUNTS} FROM judged GROUP BY project"
    by_tool = (
        f"WITH judged AS ({judged}) SELECT project, c.tool, {_COUNTS} FROM judged CROSS JOIN tool_calls c "
        "ON c.run_id = judged.run_id GROUP BY project, c.tool"
    )
    rows = [*db.execute(whole, values), *db.execute(by_tool, values)]
    return {_group(row): Tally(successes=row["successes"], total=row["total"]) for row in rows}


_COUNTS = """count(DISTINCT judged.run_id) AS total,
  count(DISTINCT CASE label WHEN 'success' THEN judged.run_id END) AS successes"""


def _judged(newest: bool) -> str:
    order = "DESC" if newest else "ASC"
    return f"""SELECT r.run_id, r.project, {JUDGED} AS label FROM (
    SELECT id, run_id, project, demonstration FROM runs INDEXED BY runs_by_model
    WHERE model_hash = :model AND purpose = 'work' ORDER BY id {order} LIMIT {_LOOKED_AT}
  ) r WHERE NOT r.demonstration AND {JUDGED} IN ('success', 'failure') ORDER BY r.id {order} LIMIT :limit"""


def _group(row: sqlite3.Row) -> Group:
    return Group(unpack_text(row["project"]), None if row["tool"] is None else unpack_text(row["tool"]))
