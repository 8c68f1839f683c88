"""`koboshi tools success`: how each version of a tool did, as each model used it."""

import click

from ..text import plain
from .context import echo_json, open_home, table

_COLUMNS = (
    *("tool", "version", "model", "calls", "went well", "denied", "invalid"),
    *("recorded only", "runs judged", "runs succeeded"),
)


@click.command("success")
@click.option("--newest", type=click.IntRange(1), help="Only so many of the newest calls, default all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def success_command(newest: int | None, as_json: bool) -> None:
    """Count calls and the outcomes of their runs, by tool, version and model.

    Example: koboshi tools success --newest 50000
    """
    from ..store import Store
    from ..store.tools import tool_rows

    store = Store.open(open_home().traces)
    with store.reading() as db:
        rows = tool_rows(db, newest)
    if as_json:
        echo_json([row.model_dump(mode="json") for row in rows])
        return
    cells = [
        (plain(row.tool), plain(row.version or "-"), plain(row.model), *map(str, (row.calls, row.fine, row.denied)))
        + tuple(map(str, (row.invalid, row.not_executed, row.judged, row.succeeded)))
        for row in rows
    ]
    table(_COLUMNS, cells)
