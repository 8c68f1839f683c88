"""`koboshi train`: from what runs did to a model that is live or refused, whole or up to a stage.

The stages are `build`, `fit`, `export` and `gate`; each walks those before it, and what is whole is not made again, so
the same command goes on where a killed one stopped.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from koboshi_runtime.cli.context import echo_json, progress
from koboshi_tools import RefusedError

from .training import plan_of, run_stages, workshop_here

if TYPE_CHECKING:
    from ..pipeline import Prepared, TrainResult

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--method", type=click.Choice(["nat", "nut", "success", "kto"]), help="Default [train] method."),
    click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the rows."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Default [train] learning_rate."),
    click.option("--rank", type=click.IntRange(1), help="Of the LoRA matrices."),
    click.option("--batch-rows", type=click.IntRange(1), help="Rows of one optimizer step."),
    click.option("--seed", type=int, help="Of the adapter's first weights and the rows' order."),
    click.option("--name", help="What to call the model, default its base's name and the training's."),
    click.option("--dataset", type=click.Path(path_type=Path), metavar="DIR", help="A dataset that was built before."),
    click.option("--gate-tasks", type=click.IntRange(1), help="The most tasks of the gate, default [gate] tasks."),
    click.option("--json", "as_json", is_flag=True, default=None, help="Print JSON."),
)


def _options(function: Function) -> Function:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group(invoke_without_command=True)
@_options
@click.pass_context
def train(context: click.Context, /, **given: Any) -> None:
    """Train on what runs did, and prove the result.

    The result goes live only if the gate accepts it; the exit code is 3 where it does not.

    Example: koboshi train --method nat
    """
    context.obj = given
    if context.invoked_subcommand is None:
        _train_whole(given)


@train.command()
@_options
@click.pass_obj
def build(earlier: dict[str, Any], /, **given: Any) -> None:
    """Freeze what there is to learn from, and print where it lies.

    Example: koboshi train build
    """
    from ..pipeline import build_dataset_here

    flags = _merged(earlier, given)
    with workshop_here(_keys(flags)) as workshop:
        dataset = run_stages(build_dataset_here(workshop))
    counts = dataset.manifest.counts
    if flags["as_json"]:
        echo_json({"path": str(dataset.path), **dataset.manifest.model_dump(mode="json")})
        return
    labels = ", ".join(f"{count} {label}" for label, count in counts.labels.items())
    progress(f"{counts.train} rows to train on, {counts.held_out} held out: {labels}")
    click.echo(dataset.path)


@train.command()
@_options
@click.pass_obj
def fit(earlier: dict[str, Any], /, **given: Any) -> None:
    """Train an adapter, and print where it lies.

    Example: koboshi train fit --epochs 2
    """
    flags = _merged(earlier, given)
    _print_prepared(_prepared(flags, exported=False), "adapter", as_json=flags["as_json"])


@train.command()
@_options
@click.pass_obj
def export(earlier: dict[str, Any], /, **given: Any) -> None:
    """Train an adapter and make its model files, and print where they lie.

    Example: koboshi train export
    """
    flags = _merged(earlier, given)
    _print_prepared(_prepared(flags, exported=True), "export", as_json=flags["as_json"])


@train.command()
@_options
@click.pass_obj
def gate(earlier: dict[str, Any], /, **given: Any) -> None:
    """Let the result be judged against the current model, after all stages before that.

    Example: koboshi train gate --gate-tasks 200
    """
    _train_whole(_merged(earlier, given))


def _train_whole(flags: dict[str, Any]) -> None:
    from ..gate.reasons import explain
    from ..pipeline import train as train_here
    from .train_progress import Teller

    with workshop_here(_keys(flags)) as workshop:
        plan = plan_of(workshop)
        work = train_here(workshop, plan, name=flags["name"], dataset=flags["dataset"], listener=Teller().listener)
        result = run_stages(work)
    if flags["as_json"]:
        echo_json(result.model_dump(mode="json"))
    elif result.verdict is not None:
        click.echo("\n".join(explain(result.verdict)))
    if not result.promoted:
        raise _refusal(result)
    progress(f"{result.name} is live now. To go back: koboshi models rollback")


def _refusal(result: "TrainResult") -> RefusedError:
    if result.verdict is None:
        reasons = "; ".join(result.parity.reasons)
        hint = f"Its files are in {result.folder}; train with other settings."
        return RefusedError(
            f"{result.name} does not go live, its file is not the model that was trained: {reasons}", hint=hint
        )
    reasons = "; ".join(reason.text for reason in result.verdict.reasons)
    more = result.verdict.more_tasks
    hint = f"About {more} more gate tasks would settle it." if more else "Gather more runs, and train again."
    return RefusedError(f"the gate refused {result.name}: {reasons}", hint=hint)


def _prepared(flags: dict[str, Any], *, exported: bool) -> "Prepared":
    from ..pipeline import prepare
    from .train_progress import Teller

    with workshop_here(_keys(flags)) as workshop:
        plan = plan_of(workshop)
        return run_stages(
            prepare(workshop, plan, exported=exported, dataset=flags["dataset"], listener=Teller().listener)
        )


def _print_prepared(made: "Prepared", part: str, *, as_json: bool) -> None:
    path = made.folder / part
    if as_json:
        dataset_hash = made.dataset.manifest.dataset_hash
        echo_json({"path": str(path), "dataset_hash": dataset_hash, "fit": made.fit.model_dump(mode="json")})
        return
    for name, after in made.fit.held_out_after.items():
        progress(f"held-out loss, {name}: {made.fit.held_out_before[name]:.3f} to {after:.3f}")
    click.echo(path)


def _merged(earlier: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options, given before the stage's name or after it."""
    return {name: earlier[name] if value is None else value for name, value in given.items()}


def _keys(flags: dict[str, Any]) -> dict[str, Any]:
    train_keys = ("method", "epochs", "learning_rate", "rank", "batch_rows", "seed")
    return {f"train.{name}": flags[name] for name in train_keys} | {"gate.tasks": flags["gate_tasks"]}
