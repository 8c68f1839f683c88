"""`koboshi traces forget`: take a run out of the home, and name who learnt from it."""

import getpass

import click

from koboshi_runtime.cli.completing import RUN
from koboshi_runtime.cli.context import echo_json, open_home, progress


@click.command()
@click.argument("run", type=RUN)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--why", default="", help="The reason, kept with the run's id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; does not ask.")
def forget(run: str, yes: bool, why: str, as_json: bool) -> None:
    """Delete all that a run holds, everywhere in the home, and name the models trained on it.

    Example: koboshi traces forget @last --why "a customer asked"
    """
    from koboshi_runtime.cli.traces import run_ref
    from koboshi_runtime.house.forget import forget as forget_run
    from koboshi_runtime.store import Store

    home = open_home()
    store = Store.open(home.traces)
    run_id = store.resolve(run_ref(run))
    if not (yes or as_json):
        click.confirm(f"Delete run {run_id} and what was forked from it for good?", abort=True, err=True)
    gone = forget_run(home, store, run_id, who=getpass.getuser(), why=why)
    if as_json:
        echo_json(gone.model_dump(mode="json"))
        return
    click.echo(gone.run_id)
    if gone.forks:
        progress(f"and its forks: {', '.join(gone.forks)}")
    progress(f"deleted from: {', '.join(gone.removed)}")
    for model in gone.learnt_by:
        progress(f"learnt by {model.name} ({model.model_hash.removeprefix('sha256:')[:12]}, {model.state})")
    if any(model.state in ("current", "previous") for model in gone.learnt_by):
        progress("A model cannot unlearn: train again, or go back with: koboshi models rollback")
    progress("Backups and exports made before still hold it.")
