"""`koboshi traces`: list, show, compare, replay, blame and search what was recorded."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from koboshi_runtime.cli.completing import MODEL, RUN
from koboshi_runtime.cli.context import echo_json, open_home, progress, table
from koboshi_runtime.cli.traces_blame import blame_command
from koboshi_runtime.cli.traces_forget import forget
from koboshi_runtime.cli.traces_move import export, import_command
from koboshi_runtime.cli.traces_replay import replay_command

if TYPE_CHECKING:
    from koboshi_runtime.traces.diff import DiffRow, TraceDiff


def _choice(name: str, values: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", type=click.Choice(values.split()), help=f"Only runs of this {name}.")


@click.group(invoke_without_command=True)
@click.pass_context
def traces(context: click.Context) -> None:
    """Look at recorded runs.

    Example: koboshi traces list --outcome failure
    """
    if context.invoked_subcommand is None:
        context.invoke(list_runs)


@traces.command("list")
@_choice("purpose", "work rollout eval gate bench canary")
@_choice("split", "train dev gate test")
@_choice("status", "running finished failed interrupted")
@_choice("outcome", "success failure unknown")
@click.option("--model", type=MODEL, metavar="REF", help="Only runs of this model, by name or hash.")
@click.option("--task", "task_id", help="Only runs of this task id.")
@click.option("--tool", help="Only runs that called this tool.")
@click.option("--text", help="Only runs that hold all of these words in one prompt, reply or call.")
@click.option("--since", help="Only runs from this time on, ISO 8601 in UTC.")
@click.option("--imported/--own", default=None, help="Only runs that were imported, or only those made here.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_runs(as_json: bool, **wanted: Any) -> None:
    """List runs, the newest first.

    Example: koboshi traces list --tool sql --outcome failure
    """
    from koboshi_runtime.store import RunFilter, Store

    rows = Store.open(open_home().traces).runs(RunFilter(**wanted))
    if as_json:
        echo_json([row.model_dump(mode="json") for row in rows])
        return
    from koboshi_runtime.traces.view import RUN_COLUMNS, run_cells

    table(RUN_COLUMNS, [run_cells(row) for row in rows])


@traces.command()
@click.argument("run", type=RUN)
@click.option("--full", is_flag=True, help="Show long texts whole.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(run: str, full: bool, as_json: bool) -> None:
    """Show a run step by step.

    Example: koboshi traces show @last
    """
    from koboshi_runtime.interchange.raw import raw_record
    from koboshi_runtime.reuse import prompt_reuse, reuse_json
    from koboshi_runtime.store import Store
    from koboshi_runtime.traces.view import run_lines

    store = Store.open(open_home().traces)
    trajectory = store.trajectory(store.resolve(run_ref(run)))
    if as_json:
        echo_json({**raw_record(trajectory), "prompt_reuse": reuse_json(prompt_reuse(trajectory.turns))})
    else:
        click.echo("\n".join(run_lines(trajectory, full=full)))


@traces.command()
@click.argument("a", type=RUN)
@click.argument("b", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Show two runs beside each other: what they were given, what they did, and where they part.

    Example: koboshi traces diff 4f2k9c1m @last
    """
    from koboshi_runtime.store import Store
    from koboshi_runtime.traces.diff import compare

    store = Store.open(open_home().traces)
    first, second = (store.trajectory(store.resolve(run_ref(run))) for run in (a, b))
    print_diff(compare(first, second), as_json=as_json)


@traces.command()
@click.argument("text")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(text: str, limit: int, as_json: bool) -> None:
    """Search prompts, answers, replies, arguments and results.

    Example: koboshi traces search "no such order"
    """
    from koboshi_runtime.store import Store

    hits = Store.open(open_home().traces).search(text, limit)
    if as_json:
        echo_json([hit.model_dump(mode="json") for hit in hits])
        return
    from koboshi_runtime.traces.view import HIT_COLUMNS, hit_cells

    table(HIT_COLUMNS, [hit_cells(hit) for hit in hits])


def print_diff(found: "TraceDiff", *, as_json: bool, beside: Mapping[str, Any] | None = None) -> None:
    """Print two runs beside each other, and on stderr where they part; `beside` joins the JSON."""
    from koboshi_runtime.traces.diff import diff_cells, diff_columns

    if as_json:
        rows = {key: [_as_json(row) for row in getattr(found, key)] for key in ("given", "steps", "ended")}
        echo_json(
            {"a": found.a, "b": found.b, "same": found.same, "parts_at": found.parts_at, **rows, **(beside or {})}
        )
        return
    table(diff_columns(found), diff_cells(found))
    parted = "They go the same way." if found.parts_at is None else f"They part at step {found.parts_at}."
    progress(parted)


def _as_json(row: "DiffRow") -> dict[str, Any]:
    return {**row.model_dump(mode="json"), "same": row.same}


def run_ref(given: str) -> str:
    """Return the run that was named on the command line; `-` reads it from standard input."""
    return sys.stdin.readline().strip() if given == "-" else given


traces.add_command(export)
traces.add_command(import_command)
traces.add_command(forget)
traces.add_command(replay_command)
traces.add_command(blame_command)
