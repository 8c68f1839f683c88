"""`koboshi run`: one prompt, a file of tasks, or the rest of a run that was cut off."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koboshi_tools import KoboshiError, UsageError

from .completing import MODEL, RUN
from .context import early_worker, echo_json, load_config_here, open_home, progress, project_dir
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..home import Home
    from ..project import Project
    from ..records import RunHeader
    from ..runner import RunResult, RunSettings
    from ..session import Place, Session
    from ..worker_process import WorkerProcess

_FILE = click.Path(path_type=Path)


class InterruptedRunError(KoboshiError):
    """Somebody pressed Ctrl-C; what was done so far is stored."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class RunFlags:
    """The options of `koboshi run`, but for those that the configuration holds."""

    prompt: str | None
    tasks: Path | None
    resume: str | None
    samples: int
    model: str | None
    purpose: str
    policy: tuple[Path, ...]
    allow_command_checkers: bool
    fail_on_outcome: bool
    unconstrained: bool
    as_json: bool


@click.command()
@click.argument("prompt", required=False, metavar="[PROMPT|-]")
@click.option("--tasks", type=_FILE, metavar="FILE", help="Run every task of this file instead of a prompt.")
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Runs of each task.")
@click.option("--temperature", type=click.FloatRange(0), help="0 takes the likeliest token; default [run] temperature.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Cut the tail; default [run] top_p.")
@click.option("--seed", type=int, help="The same seed gives the same runs; default [run] seed.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at once; default as many as the worker has sequences.")
@click.option(
    "--model", type=MODEL, metavar="REF", help="current, previous, base, a name or a hash; default the project's."
)
@click.option(
    "--purpose",
    type=click.Choice(["work", "rollout"]),
    default="work",
    show_default=True,
    help="work uses the project's workspace, rollout a copy of it.",
)
@click.option("--policy", type=_FILE, multiple=True, metavar="FILE", help="A further policy file; may be repeated.")
@click.option("--allow-command-checkers", is_flag=True, help="Let programs of checks/ judge runs.")
@click.option("--fail-on-outcome", is_flag=True, help="Exit with 1 unless every run was a success.")
@click.option("--resume", type=RUN, metavar="RUN", help="Go on with a run that was cut off.")
@click.option("--unconstrained", is_flag=True, help="Let the model write calls freely; they are still validated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
def run(prompt: str | None, **options: Any) -> int:
    """Run a prompt, a file of tasks, or the rest of a run that was cut off.

    Example: koboshi run "How much is 17 * 23?"
    """
    if sum(given is not None for given in (prompt, options["tasks"], options["resume"])) != 1:
        raise UsageError("give a prompt, --tasks FILE or --resume RUN", hint='Try: koboshi run "How much is 17 * 23?"')
    drawn = {f"run.{name}": options.pop(name) for name in ("temperature", "top_p", "seed", "jobs")}
    flags = RunFlags(sys.stdin.read() if prompt == "-" else prompt, **options)
    with early_worker() as process:
        return _exit_code(_carry_out(flags, drawn, process), flags)


def _carry_out(flags: RunFlags, drawn: dict[str, Any], process: "WorkerProcess | None") -> "Sequence[RunResult]":
    import asyncio

    from ..ids import utc_now
    from ..session import Place

    place = Place(open_home(), project_dir(), load_config_here(drawn).settings, flags.policy)
    ask_for_trust(place.home, place.folder)
    started = utc_now()
    try:
        return asyncio.run((_resume if flags.resume else _run)(flags, place, process))
    except KeyboardInterrupt:
        raise _interrupted(place, flags.resume, started) from None


async def _run(flags: RunFlags, place: "Place", process: "WorkerProcess | None") -> "Sequence[RunResult]":
    from ..session import open_session
    from ..tasks import load_tasks, prompt_task, split_of_file
    from .eval import Ticker

    tasks = load_tasks(flags.tasks) if flags.tasks else (prompt_task(flags.prompt or ""),)
    split = split_of_file(flags.tasks) if flags.tasks else None
    tick = Ticker(len(tasks) * flags.samples)

    def refuse(project: "Project") -> None:
        project.refuse_unrunnable(tasks, project.check_settings(allow_commands=flags.allow_command_checkers))

    runs = len(tasks) * flags.samples
    async with open_session(
        place, model_ref=flags.model, runs=runs, before_loading=refuse, share=True, process=process
    ) as session:
        if session.watched is not None and session.watched.fell:
            progress(session.watched.text)
        settings = replace(_settings(flags, place, session), split=split)

        def finished(result: "RunResult") -> None:
            _print(result, session, flags)
            if flags.tasks:
                tick(result)

        return await session.runner(settings).run_all(tasks, samples=flags.samples, on_result=finished)


async def _resume(flags: RunFlags, place: "Place", process: "WorkerProcess | None") -> "Sequence[RunResult]":
    from ..session import open_session

    run_id, header = _begun_run(place.home, flags.resume or "")
    ref = flags.model or header.model_hash
    async with open_session(place, model_ref=ref, runs=1, share=True, process=process) as session:
        settings = replace(_settings(flags, place, session), purpose=header.purpose)
        result = await session.runner(settings).resume(run_id)
        _print(result, session, flags)
        return [result]


def _begun_run(home: "Home", ref: str) -> "tuple[str, RunHeader]":
    from ..store import Store

    store = Store.open(home.traces)
    run_id = store.resolve(ref)
    return run_id, store.trajectory(run_id).header


def _settings(flags: RunFlags, place: "Place", session: "Session") -> "RunSettings":
    from ..records import Purpose
    from ..runner import RunSettings
    from .steps import show
    from .terminal import AttendedAsker, attended

    drawn = place.settings.run
    return RunSettings(
        purpose=Purpose(flags.purpose),
        seed=drawn.seed,
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        jobs=min(drawn.jobs or session.model.info.parallel, session.model.info.parallel),
        constrained=not flags.unconstrained,
        asker=AttendedAsker(session.store, session.policy.hash) if attended() else None,
        watch=show if flags.tasks is None and not flags.as_json and sys.stderr.isatty() else None,
        check_settings=session.project.check_settings(allow_commands=flags.allow_command_checkers),
    )


def _print(result: "RunResult", session: "Session", flags: RunFlags) -> None:
    from ..text import plain

    if flags.as_json:
        echo_json(_as_json(result, session, of_file=flags.tasks is not None))
    elif flags.tasks is not None:
        click.echo("\t".join(plain(str(cell)) for cell in (result.task_id, result.outcome.value, result.answer or "")))
    elif result.answer is not None:
        click.echo(plain(result.answer, keep_lines=True))
    if result.answer is None and flags.tasks is None:
        progress(f"no answer: the run ended by {result.reason.value}. See: koboshi traces show {result.run_id}")
    if result.unattended:
        calls = f"{result.unattended} call{'s' * (result.unattended > 1)}"
        progress(f"{calls} refused, with nobody to ask. To allow one its next time: koboshi approvals list")


def _as_json(result: "RunResult", session: "Session", *, of_file: bool) -> dict[str, Any]:
    from ..reuse import prompt_reuse, reuse_json

    turns = session.store.trajectory(result.run_id).turns
    found = {
        "run_id": result.run_id,
        "answer": result.answer,
        "outcome": result.outcome.value,
        "steps": result.steps,
        "model": {"hash": result.model_hash, "name": session.model.info.name},
        "prompt_reuse": reuse_json(prompt_reuse(turns)),
    }
    return {"task_id": result.task_id, "sample": result.sample, **found} if of_file else found


def _exit_code(results: "Sequence[RunResult]", flags: RunFlags) -> int:
    lost = [result for result in results if result.error is not None]
    if lost and len(lost) == len(results):
        hint = f"See: koboshi traces show {lost[0].run_id}"
        raise KoboshiError(f"{len(lost)} of {len(results)} runs failed: {lost[0].error}", hint=hint)
    if lost:
        progress(f"{len(lost)} of {len(results)} runs failed: {lost[0].error}")
    return int(flags.fail_on_outcome and any(result.outcome != "success" for result in results))


def _interrupted(place: "Place", resumed: str | None, started: str) -> InterruptedRunError:
    """Return the error that says how to go on with what this command had under way."""
    from ..records import RunStatus
    from ..store import RunFilter, Store

    store = Store.open(place.home.traces)
    begun = RunFilter(status=RunStatus.INTERRUPTED, since=None if resumed else started, limit=None)
    left = [row.run_id for row in store.runs(begun) if resumed is None or row.run_id == store.resolve(resumed)]
    if not left:
        return InterruptedRunError("interrupted")
    project = "" if place.folder is None or Path.cwd().is_relative_to(place.folder) else f" -C {place.folder}"
    hint = f"Go on with: koboshi{project} run --resume {left[0]}"
    return InterruptedRunError(f"interrupted, with {len(left)} run{'s' * (len(left) > 1)} under way", hint=hint)
