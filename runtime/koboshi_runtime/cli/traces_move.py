"""`koboshi traces export` and `import`: runs in the formats of other programs."""

import getpass
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koboshi_runtime.cli.completing import RUN
from koboshi_runtime.cli.context import echo_json, open_home, progress, project_dir
from koboshi_tools import UsageError

if TYPE_CHECKING:
    from ..interchange.importing import Imported
    from ..interchange.reading import Found
    from ..records import Trajectory
    from ..store import Store

_FORMATS = ("openai", "sharegpt", "atif", "otlp", "trajectory")


@click.command()
@click.argument("runs", nargs=-1, type=RUN)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="openai",
    show_default=True,
    help="openai is messages and tools, otlp OpenTelemetry spans, trajectory all that is stored.",
)
@click.option(
    "--purpose", type=click.Choice("work rollout eval gate bench canary".split()), help="Only runs of this purpose."
)
@click.option("--outcome", type=click.Choice("success failure unknown".split()), help="Only runs of this outcome.")
@click.option("--content", is_flag=True, help="With otlp: write what was said as well.")
@click.option("--to", metavar="URL", help="With otlp: post to a collector on this machine instead of writing.")
def export(
    runs: tuple[str, ...], form: str, purpose: str | None, outcome: str | None, content: bool, to: str | None
) -> None:
    """Write runs as JSON Lines, for other programs or for another home.

    Example: koboshi traces export --outcome success > good.jsonl
    """
    from koboshi_runtime.interchange.leaving import leave
    from koboshi_runtime.interchange.sending import loopback_url, post_json
    from koboshi_runtime.store import Store

    if form != "otlp" and (content or to):
        raise UsageError("--to and --content are for --format otlp", hint="Add: --format otlp")
    url = loopback_url(to) if to else None
    store = Store.open(open_home().traces)
    record = _recorder(form, store, content=content)
    for trajectory in _chosen(store, runs, purpose):
        if outcome is None or trajectory.outcome == outcome:
            written = leave(trajectory, record)
            post_json(url, written) if url else click.echo(json.dumps(written))


def _recorder(form: str, store: "Store", *, content: bool) -> "Callable[[Trajectory], dict[str, Any]]":
    from ..interchange.atif import atif_record
    from ..interchange.conversation import conversation_of
    from ..interchange.messages import openai_record
    from ..interchange.otlp import otlp_record, times_of
    from ..interchange.raw import raw_record
    from ..interchange.sharegpt import sharegpt_record

    recorders: dict[str, Callable[[Trajectory], dict[str, Any]]] = {
        "openai": lambda trajectory: openai_record(conversation_of(trajectory)),
        "sharegpt": lambda trajectory: sharegpt_record(conversation_of(trajectory)),
        "atif": atif_record,
        "otlp": lambda trajectory: otlp_record(trajectory, times_of(store, trajectory), content=content),
        "trajectory": raw_record,
    }
    return recorders[form]


def _chosen(store: "Store", runs: tuple[str, ...], purpose: str | None) -> "Iterator[Trajectory]":
    from ..records import Purpose
    from .traces import run_ref

    if runs:
        yield from [store.trajectory(store.resolve(run_ref(run))) for run in runs]
    else:
        yield from store.iter_trajectories([Purpose(purpose)] if purpose else [])


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option("--outcome", type=click.Choice(["success", "failure"]), help="Label every run so, in your name.")
@click.option("--project", help="The project that the runs count for, default the one here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_command(paths: tuple[Path, ...], outcome: str | None, project: str | None, as_json: bool) -> None:
    """Read runs of other programs: OpenAI messages, ShareGPT, ATIF, logs of `llm` and of Goose.

    Every file is read before anything is stored. A folder stands for each `trajectory.json` in it.

    Example: koboshi traces import "$(llm logs path)" trajectory.json chats.jsonl
    """
    from ..interchange.reading import read_runs

    home = open_home()
    files = [file for path in paths for file in _files(path)]
    found = [(file, read_runs(file)) for file in files]
    told = [_import(home.traces, file, read, outcome, project or _project_here()) for file, read in found]
    if as_json:
        echo_json(told)
        return
    for each in told:
        progress(_told(each))
    click.echo("\n".join(run_id for each in told for run_id in each["run_ids"]))


def _files(path: Path) -> list[Path]:
    """Return the file, or every ATIF document that Harbor left in a folder. Raises UsageError if there is none."""
    found = sorted(path.rglob("trajectory.json")) if path.is_dir() else [path]
    if not found:
        raise UsageError(f"there is no trajectory.json in {path} or below it", hint="Name the file itself.")
    return found


def _import(traces: Path, file: Path, found: "Found", outcome: str | None, project: str) -> dict[str, Any]:
    from ..interchange.importing import import_runs
    from ..records import Outcome, OutcomeLabel, OutcomeSource
    from ..store import JobStatus, Store

    store = Store.open(traces)
    label = None
    if outcome:
        why = f"said of all runs of {file.name}"
        label = Outcome(label=OutcomeLabel(outcome), source=OutcomeSource.PERSON, who=getpass.getuser(), rationale=why)
    named = {"path": str(file.absolute()), "format": found.form}
    job = store.start_job("import", named)
    try:
        result = import_runs(
            store,
            found.runs,
            source=f"{found.form} {file.name}",
            project=project,
            label=label,
            left_out=found.left_out,
        )
    except BaseException as error:
        store.finish_job(job, JobStatus.FAILED, {"error": str(error) or repr(error)})
        raise
    counts = _counts(result)
    store.finish_job(job, JobStatus.DONE, counts)
    return {**named, **counts, "run_ids": list(result.run_ids)}


def _counts(result: "Imported") -> dict[str, Any]:
    return {"runs": len(result.run_ids), **result.model_dump(mode="json", exclude={"run_ids"})}


def _told(each: dict[str, Any]) -> str:
    labels = ", ".join(f"{count} {label}" for label, count in each["labels"].items())
    runs = f"{each['runs']} run{'s' * (each['runs'] != 1)}"
    parts = [f"{each['path']} ({each['format']}): {runs} imported" + (f", {labels}" if labels else "")]
    parts += [f"{each['known']} were here already"] * bool(each["known"])
    parts += [f"{each['forgotten']} were forgotten here, and stay so"] * bool(each["forgotten"])
    parts += [f"left out: {count} with {reason}" for reason, count in each["left_out"].items()]
    return "; ".join(parts)


def _project_here() -> str:
    from ..project import load_project

    folder = project_dir()
    return load_project(folder).name if folder else "imported"
