"""`koboshi doctor`: whether this machine can do what is asked of it, and the fastest way to load a model here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koboshi_tools import KoboshiError, UsageError

from ..text import plain
from .completing import MODEL
from .context import echo_json, load_config_here, open_home, progress, table

if TYPE_CHECKING:
    from ..estimate import Need
    from ..home import Home
    from ..house.checkup import Check
    from ..models.registry import ModelEntry
    from ..tuning import Trial
    from ..workermodel import WorkerSettings


@click.command()
@click.option(
    "--model", type=MODEL, metavar="REF", help="current, previous, base, a name or a hash; default the live one."
)
@click.option("--tune", is_flag=True, help="Measure how the model is loaded best, and keep that; takes minutes.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An F16 file of the same weights to compare with; default the model's own master, if it was trained.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(model: str | None, tune: bool, reference: Path | None, as_json: bool) -> int:
    """Say what is well here, what a model needs and what there is, and measure how it is loaded best.

    Example: koboshi doctor --tune
    """
    from .. import tuning
    from ..estimate import needs, weights_of
    from ..estimate_night import night_hours, night_line, operations_a_second
    from ..house.checkup import checks
    from ..models.inspect import inspect_gguf
    from ..models.registry import Registry

    home = open_home(create=False)
    settings = load_config_here().settings
    looked = checks(home, gpu_layers=settings.worker.gpu_layers, budget_gb=settings.disk.budget_gb)
    if not as_json:
        _show(looked)
    try:
        entry = Registry(home).resolve(model or settings.model.ref)
    except KoboshiError:
        if as_json:
            echo_json({"checks": [check.model_dump(mode="json") for check in looked]})
        raise
    worker = tuning.worker_settings(home, settings, entry)
    facts, file_bytes = inspect_gguf(entry.path), entry.path.stat().st_size
    found = needs(facts, file_bytes, worker, settings.train, home.root)
    hours = night_hours(
        weights_of(facts, file_bytes),
        gate_tasks=settings.gate.tasks,
        train=settings.train,
        operations_a_second=operations_a_second(),
    )
    if not as_json:
        table(("what", "needed GB", "there GB", ""), [_row(need) for need in found])
        click.echo(night_line(hours))
    _refuse_impossible(entry, found)
    trials = _tune(home, entry, worker, reference) if tune else ()
    if as_json:
        shown = {"checks": [check.model_dump(mode="json") for check in looked]}
        night = {"night_hours": {**hours.model_dump(), "total": hours.total}}
        echo_json(shown | _as_json(entry, found, trials, worker) | night)
    elif trials:
        table(
            ("loaded with", "ms, one run", f"ms, {worker.parallel} runs", "top-1 of F16", "KLD"),
            [_trial(trial) for trial in trials],
        )
        click.echo(f"kept: {tuning.described(tuning.choose(trials).tuned)}")
    return 0


def _show(looked: "tuple[Check, ...]") -> None:
    from ..machine import describe

    machine = describe()
    click.echo(f"{machine.processors} x {machine.processor}, {machine.memory_gb} GB, load {machine.load}")
    for check in looked:
        click.echo(f"{check.what}: {plain(check.said)}" + (f"; run: {plain(check.run)}" if check.run else ""))


def _refuse_impossible(entry: "ModelEntry", found: "tuple[Need, ...]") -> None:
    serving = found[0]
    if not serving.fits:
        raise KoboshiError(
            f"{entry.manifest.name} needs {serving.needed_gb} GB to serve, and there are {serving.there_gb} GB",
            hint="lower [worker] parallel or context_tokens, or choose a smaller file",
        )


def _tune(home: "Home", entry: "ModelEntry", worker: "WorkerSettings", reference: Path | None) -> "tuple[Trial, ...]":
    from ..tuning import tune

    if reference is not None and not reference.is_file():
        raise UsageError(f"there is no file {reference}", hint="give the path of an F16 .gguf file")
    master = entry.path.parent / "master.f16.gguf"
    chosen = reference or (master if master.exists() else None)
    if chosen is None:
        progress("no F16 file of this model is here: speed is measured without agreement; give one with --reference")
    return tune(home, entry, worker, reference=chosen, progress=progress)


def _row(need: "Need") -> tuple[str, ...]:
    return need.what, f"{need.needed_gb:.2f}", f"{need.there_gb:.2f}", "fits" if need.fits else "does not fit"


def _trial(trial: "Trial") -> tuple[str, ...]:
    from ..tuning import described

    agreed = (
        ("", "") if trial.agreement is None else (f"{trial.agreement.top1:.3f}", f"{trial.agreement.divergence:.4f}")
    )
    return described(trial.tuned), f"{trial.pace.one_ms:.1f}", f"{trial.pace.many_ms:.1f}", *agreed


def _as_json(
    entry: "ModelEntry", found: "tuple[Need, ...]", trials: "tuple[Trial, ...]", worker: "WorkerSettings"
) -> dict[str, Any]:
    from koboshi_tools.sandbox import probe

    from ..machine import describe
    from ..tuning import choose

    sandbox = probe()
    return {
        "machine": describe().model_dump(mode="json"),
        "sandbox": {"kind": sandbox.mode, "missing": sandbox.missing},
        "model": {"hash": entry.manifest.model_hash, "name": entry.manifest.name},
        "needs": [{**need.model_dump(mode="json"), "fits": need.fits} for need in found],
        "threads": worker.threads,
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "kept": choose(trials).tuned.model_dump(mode="json") if trials else None,
    }
