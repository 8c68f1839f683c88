"""`koboshi why`: five lines on how a run went."""

import click

from koboshi_runtime.cli.completing import RUN
from koboshi_runtime.cli.context import echo_json, open_home
from koboshi_runtime.cli.traces import run_ref

_LINES = ("asked", "wrong", "rule", "outcome", "next")
_WIDTH = 9


@click.command()
@click.argument("run", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def why(run: str, as_json: bool) -> None:
    """Say in five lines why a run ended as it did, and what to do next.

    What went wrong first is the earliest step at which something did not go as it should.

    Example: koboshi why @last
    """
    from koboshi_runtime.store import Store
    from koboshi_runtime.traces.why import explain

    store = Store.open(open_home().traces)
    run_id = store.resolve(run_ref(run))
    trajectory = store.trajectory(run_id)
    names = {model.model_hash: model.name for model in store.models()}
    resumable = trajectory.end is None and run_id in store.unfinished()
    found = explain(trajectory, model=names.get(trajectory.header.model_hash), resumable=resumable)
    if as_json:
        echo_json(found.model_dump(mode="json"))
    else:
        click.echo("\n".join(f"{name:<{_WIDTH}}{getattr(found, name)}" for name in _LINES))
