"""`koboshi bench`: koboshi beside its rivals in one run, as a table, a plot and JSON."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koboshi_tools import UsageError

from .completing import MODEL
from .context import echo_json, load_config_here, open_home, progress, table

if TYPE_CHECKING:
    from ..bench.figures import BenchReport, Cost, Figure

_SIDES = ("raw", "server", "plain", "free", "no-store")


@click.command()
@click.option("--pack", type=click.Choice(["shop", "arithmetic"]), default="shop", show_default=True, help="The tasks.")
@click.option(
    "--model", type=MODEL, metavar="REF", help="current, previous, base, a name or a hash; default the live one."
)
@click.option("--tasks", type=click.IntRange(1), default=32, show_default=True, help="Tasks of each round.")
@click.option("--pairs", type=click.IntRange(1), default=5, show_default=True, help="Rounds; medians are over them.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at once; default [worker] parallel.")
@click.option(
    "--without", type=click.Choice((*_SIDES, "start")), multiple=True, help="Leave out a side; may be repeated."
)
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Draw the figures into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def bench(**options: Any) -> int:
    """Measure koboshi beside llama.cpp itself, llama.cpp's server and a plain loop.

    Example: koboshi bench --pack shop --pairs 3
    """
    if set(options["without"]) == set(_SIDES):
        raise UsageError("no side is left to measure beside", hint="give --without fewer times")
    report = asyncio.run(_measure(options))
    if options["png"]:
        from ..bench.plot import write_png

        write_png(report, options["png"])
    if options["as_json"]:
        echo_json(report.model_dump(mode="json"))
    else:
        _show(report)
    return 0


async def _measure(options: dict[str, Any]) -> "BenchReport":
    from ..bench.measure import BenchSettings, measure
    from ..bench.start import first_token_s
    from ..models.registry import Registry
    from ..tuning import worker_settings
    from ..workermodel import WorkerModel, WorkerSettings

    home, configured = open_home(), load_config_here().settings
    entry = Registry(home).resolve(ref := options["model"] or configured.model.ref)
    # Rivals start without anything on disk, and so does koboshi here.
    worker = replace(worker_settings(home, configured, entry), prefixes=None)
    if entry.adapter is not None:
        raise UsageError(
            f"{entry.manifest.name} is an adapter on another file", hint="measure a merged model: --model REF"
        )

    async def start(settings: WorkerSettings) -> WorkerModel:
        manifest = entry.manifest
        return await WorkerModel.start(
            entry.path, settings, model_hash=manifest.model_hash, name=manifest.name, profile=manifest.profile
        )

    settings = BenchSettings(
        pack=options["pack"],
        tasks=options["tasks"],
        pairs=options["pairs"],
        jobs=options["jobs"] or worker.parallel,
        sides=[side for side in _SIDES if side not in options["without"]],
        worker=worker,
    )
    first = None if "start" in options["without"] else lambda place: first_token_s(home, ref, options["pack"], place)
    return await measure(settings, start=start, path=entry.path, first_token=first, progress=progress)


def _show(report: "BenchReport") -> None:
    from ..bench.plot import bars

    rows = [
        (figure.name, figure.unit, f"{figure.ours:.2f}", f"{figure.theirs:.2f}", f"{figure.ratio:.2f}", _target(figure))
        for figure in report.figures
    ]
    table(("figure", "unit", "koboshi", "rival", "ratio", "target"), rows)
    if report.costs:
        table(("cost", "koboshi", "at most"), [(cost.name, f"{cost.value:g}", _most(cost)) for cost in report.costs])
    click.echo(bars(report))
    rates = ", ".join(f"{side} {rate:.2f}" for side, rate in report.success_rates.items())
    machine = report.machine
    click.echo(f"success rate: {rates}")
    click.echo(f"{report.model}, {report.tasks} tasks of {report.pack}, {report.jobs} at once, {report.pairs} rounds")
    click.echo(
        f"{machine.processors} x {machine.processor}, {machine.memory_gb} GB, {machine.system}, load {machine.load}"
    )
    for side, why in report.missing.items():
        progress(f"{side} was left out: {why}")


def _target(figure: "Figure") -> str:
    if figure.target is None:
        return ""
    return f"{'at most ' if figure.at_most else ''}{figure.target} {_met(figure.met)}"


def _most(cost: "Cost") -> str:
    return "" if cost.target is None else f"{cost.target:g} {_met(cost.met)}"


def _met(met: bool | None) -> str:
    return "met" if met else "missed"
