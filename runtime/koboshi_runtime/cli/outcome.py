"""`koboshi outcome`: say how a run went, and see which runs wait for it."""

import getpass
from typing import TYPE_CHECKING

import click

from koboshi_runtime.cli.completing import RUN
from koboshi_runtime.cli.context import echo_json, load_config_here, open_home, progress, table
from koboshi_runtime.cli.traces import run_ref

if TYPE_CHECKING:
    from koboshi_runtime.store import Store


@click.group(invoke_without_command=True)
@click.pass_context
def outcome(context: click.Context) -> None:
    """Label runs, and list those without a label.

    Example: koboshi outcome queue
    """
    if context.invoked_subcommand is None:
        context.invoke(queue)


@outcome.command("set")
@click.argument("run", type=RUN)
@click.argument("label", type=click.Choice(["success", "failure", "unknown"]))
@click.option("--why", default="", help="The reason, for whoever reads the label later.")
@click.option("--who", default=None, help="Who says so, default the user's name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def set_outcome(run: str, label: str, why: str, who: str | None, as_json: bool) -> None:
    """Label a run; earlier labels stay, and a checker's verdict outranks a person's.

    Example: koboshi outcome set @last failure --why "wrong customer"
    """
    from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource
    from koboshi_runtime.store import Store
    from koboshi_runtime.watch import follow

    home = open_home()
    store = Store.open(home.traces)
    run_id = store.resolve(run_ref(run))
    given = Outcome(label=OutcomeLabel(label), source=OutcomeSource.PERSON, who=who or getpass.getuser(), rationale=why)
    store.add_outcome(run_id, given)
    _print_counts(store, run_id, as_json)
    watched = follow(home, store, rollback=load_config_here().settings.watch.rollback)
    if watched is not None and watched.fell:
        progress(watched.text)


@outcome.command()
@click.argument("run", type=RUN)
@click.option("--who", default=None, help="Who takes it back, default the user's name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def undo(run: str, who: str | None, as_json: bool) -> None:
    """Take back the last label that a person gave a run; what counted before counts again.

    Example: koboshi outcome undo @last
    """
    from koboshi_runtime.store import Store, StoreRuleError
    from koboshi_tools import UsageError

    store = Store.open(open_home().traces)
    run_id = store.resolve(run_ref(run))
    try:
        store.take_back_label(run_id, who or getpass.getuser())
    except StoreRuleError as error:
        raise UsageError(str(error), hint=f"`koboshi traces show {run_id}` shows its labels.") from error
    _print_counts(store, run_id, as_json)


@outcome.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def queue(limit: int, as_json: bool) -> None:
    """List ended work runs that nobody judged, those whose label says the most first, and why.

    Example: koboshi outcome queue --limit 5
    """
    from koboshi_runtime.store import Store

    store = Store.open(open_home().traces)
    rows = store.label_queue(limit)
    if as_json:
        echo_json([row.model_dump(mode="json") for row in rows])
        return
    from koboshi_runtime.traces.view import QUEUE_COLUMNS, queue_cells

    table(QUEUE_COLUMNS, [queue_cells(row) for row in rows])
    progress(_waiting(store.count_unlabelled()))


def _print_counts(store: "Store", run_id: str, as_json: bool) -> None:
    counts, left = store.trajectory(run_id).outcome, store.count_unlabelled()
    if as_json:
        echo_json({"run_id": run_id, "outcome": counts, "left": left})
    else:
        click.echo(f"{run_id} counts as {counts}. {_waiting(left)}")


def _waiting(left: int) -> str:
    return "No run waits for a label." if not left else f"{left} run{'s wait' if left > 1 else ' waits'} for a label."
