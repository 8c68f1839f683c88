"""`koboshi ps` and `koboshi stop`: what runs on this home, and ending its server."""

from typing import TYPE_CHECKING

import click

from .context import echo_json, open_home, progress, table

if TYPE_CHECKING:
    from ..house.processes import Processes

_PATIENCE_S = 60.0
_COLUMNS = ("WHAT", "PID", "ID", "DETAIL")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(as_json: bool) -> None:
    """List what runs on this home: the server, the model workers, the runs in progress.

    Example: koboshi ps
    """
    from ..house.processes import processes

    found = processes(open_home())
    if as_json:
        echo_json(found.model_dump(mode="json"))
        return
    rows = _rows(found)
    if not rows:
        progress("Nothing runs. A server is started with: koboshi serve")
        return
    table(_COLUMNS, rows)


def _rows(found: "Processes") -> list[tuple[str, str, str, str]]:
    rows = []
    if (server := found.server) is not None:
        rows.append(("server", str(server.pid), server.url, f"{server.project}, since {server.started_at}"))
    for worker in found.workers:
        detail = f"{worker.memory_mb} MB, for {worker.parent}"
        rows.append(("worker", str(worker.pid), worker.model_hash[:12], detail))
    for run in found.runs:
        rows.append(("run", str(run.pid), run.run_id[:8], f"{run.purpose}: {run.prompt}"))
    return rows


@click.command()
@click.option(
    "--wait", type=click.FloatRange(0), default=_PATIENCE_S, show_default=True, help="Seconds to wait for it."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(wait: float, as_json: bool) -> None:
    """End this home's server: replies are finished, runs are interrupted and can be resumed.

    Example: koboshi stop
    """
    from koboshi_tools import KoboshiError

    from ..presence import running_server, stop_server

    found = running_server(open_home())
    if found is None:
        raise KoboshiError("no server runs on this home", hint="See: koboshi ps")
    if not stop_server(found, patience_s=wait):
        raise KoboshiError(
            f"the server {found.pid} still runs after {wait:g} s", hint=f"End it at once with: kill -9 {found.pid}"
        )
    if as_json:
        echo_json({"pid": found.pid, "url": found.url})
    else:
        click.echo(f"ended the server {found.pid} at {found.url}")
