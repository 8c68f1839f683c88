"""`koboshi run`: one prompt, a file of tasks, or the rest of a run that was cut off."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koboshi_tools import KoboshiError, UsageError

from .context import echo_json, load_config_here, open_home, progress, project_dir

if TYPE_CHECKING:
    from ..records import RunHeader
    from ..runner import RunResult
    from ..session import Session, SessionSettings
    from ..tasks import Task
    from .terminal import Begun

_FILE = click.Path(path_type=Path)


class InterruptedRunError(KoboshiError):
    """Somebody pressed Ctrl-C; what was done so far is stored."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class RunFlags:
    """The options of `koboshi run`; None where the configuration decides."""

    tasks: Path | None
    samples: int
    temperature: float | None
    top_p: float | None
    seed: int | None
    jobs: int | None
    model: str | None
    purpose: str
    policy: tuple[Path, ...]
    allow_command_checkers: bool
    fail_on_outcome: bool
    resume: str | None
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
@click.option("--model", metavar="REF", help="current, previous, base, a name or a hash; default the project's.")
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
@click.option("--resume", metavar="RUN", help="Go on with a run that was cut off.")
@click.option("--unconstrained", is_flag=True, help="Let the model write calls freely; they are validated all the same.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
def run(prompt: str | None, **options: Any) -> int:
    """Run a prompt, a file of tasks, or the rest of a run that was cut off.

    Example: koboshi run "How much is 17 * 23?"
    """
    from .terminal import Begun, steps_watch

    flags = RunFlags(**options)
    if sum(given is not None for given in (prompt, flags.tasks, flags.resume)) != 1:
        raise UsageError("give a prompt, --tasks FILE or --resume RUN", hint='Try: koboshi run "How much is 17 * 23?"')
    begun = Begun(None if flags.tasks else steps_watch())
    try:
        results = asyncio.run(_run(_read(prompt), flags, begun))
    except KeyboardInterrupt:
        raise _interrupted(begun) from None
    return _exit_code(results, flags)


def _read(prompt: str | None) -> str | None:
    return sys.stdin.read() if prompt == "-" else prompt


async def _run(prompt: str | None, flags: RunFlags, begun: "Begun") -> "Sequence[RunResult]":
    if flags.resume is not None:
        return [await _resume(flags.resume, flags, begun)]
    if flags.tasks is None:
        return [await _run_prompt(prompt or "", flags, begun)]
    return await _run_tasks(flags.tasks, flags, begun)


async def _run_prompt(prompt: str, flags: RunFlags, begun: "Begun") -> "RunResult":
    from ..session import open_session, prompt_task

    task = prompt_task(prompt)
    opened = _settings(flags, [task], runs=flags.samples)
    async with open_session(open_home(), project_dir(), load_config_here().settings, opened) as session:
        runner = session.runner(_run_settings(flags, begun))
        (result, *_) = await runner.run_all([task])
        _print(result, session, flags)
        return result


async def _run_tasks(path: Path, flags: RunFlags, begun: "Begun") -> "Sequence[RunResult]":
    from ..session import open_session
    from ..tasks import load_tasks
    from .terminal import Progress

    tasks = load_tasks(path)
    shown = Progress(len(tasks) * flags.samples)
    opened = _settings(flags, tasks, runs=shown.total)
    async with open_session(open_home(), project_dir(), load_config_here().settings, opened) as session:

        def finished(result: "RunResult") -> None:
            _print(result, session, flags)
            shown.count(success=result.outcome == "success")

        runner = session.runner(_run_settings(flags, begun, path=path))
        return await runner.run_all(tasks, samples=flags.samples, on_result=finished)


async def _resume(ref: str, flags: RunFlags, begun: "Begun") -> "RunResult":
    from ..session import open_session
    from ..store import Store

    home = open_home()
    store = Store.open(home.traces)
    run_id = store.resolve(ref)
    header = store.trajectory(run_id).header
    store.close()
    opened = _settings(flags, (), runs=1, model=flags.model or header.model_hash)
    async with open_session(home, project_dir(), load_config_here().settings, opened) as session:
        if session.project.name != header.project:
            raise UsageError(
                f"run {run_id} belongs to the project {header.project!r}, and this is {session.project.name!r}",
                hint="Go to its folder, or pass -C DIR.",
            )
        result = await session.runner(_run_settings(flags, begun, header=header)).resume(run_id)
        _print(result, session, flags)
        return result
