"""`koboshi eval`: measure a model on a task file."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .completing import MODEL
from .context import echo_json, load_config_here, open_home, progress, project_dir, table
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..evaluate import Evaluation
    from ..project import Project

_EVERY_SECONDS = 5.0


@click.command("eval")
@click.option("--tasks", "file", required=True, type=click.Path(path_type=Path), help="The task file.")
@click.option("--model", "ref", type=MODEL, metavar="REF", help="current, previous, base, a name, or a hash prefix.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds the draws.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 takes the likeliest token."
)
@click.option(
    "--guidance",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Draw away from the failure condition; for models that were trained here, at twice the cost.",
)
@click.option("--jobs", type=click.IntRange(1), default=None, help="Runs at once, default as many as the model takes.")
@click.option("--policy", "files", multiple=True, type=click.Path(path_type=Path), help="A further policy file.")
@click.option("--allow-command-checkers", "commands", is_flag=True, help="Let programs of the project judge.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def eval_command(
    file: Path,
    ref: str | None,
    seed: int,
    temperature: float,
    guidance: float,
    jobs: int | None,
    files: tuple[Path, ...],
    commands: bool,
    as_json: bool,
) -> None:
    """Measure a model on a task file.

    An unknown outcome is not a success.

    Example: koboshi eval --tasks tasks/test.jsonl --model current --json
    """
    from ..evaluate import evaluate
    from ..session import Place, open_session
    from ..tasks import load_tasks, split_of_file

    tasks = load_tasks(file)
    place = Place(open_home(), project_dir(), load_config_here().settings, files)
    ask_for_trust(place.home, place.folder)

    def refuse(project: "Project") -> None:
        project.refuse_unrunnable(tasks, project.check_settings(allow_commands=commands))

    async def measure() -> "Evaluation":
        async with open_session(place, model_ref=ref, runs=len(tasks), before_loading=refuse) as session:
            return await evaluate(
                session,
                tasks,
                seed=seed,
                temperature=temperature,
                guidance=guidance,
                jobs=jobs,
                split=split_of_file(file),
                allow_commands=commands,
                on_result=Ticker(len(tasks)),
            )

    found = asyncio.run(measure())
    if as_json:
        echo_json(found.model_dump(mode="json"))
        return
    _show(found)


def _show(found: "Evaluation") -> None:
    low, high = found.ci95
    invalid = "none begun" if found.invalid_call_rate is None else f"{100 * found.invalid_call_rate:.1f} %"
    table(
        ("model", "tasks", "success", "95 % interval", "invalid calls", "seconds"),
        [
            (
                f"{found.model.name} {found.model.hash[7:15]}",
                str(found.tasks),
                f"{100 * found.success_rate:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f} %",
                invalid,
                f"{found.wall_s:.0f}",
            )
        ],
    )


class Ticker:
    """Says now and then how many runs are done and how long the rest will take; called after each."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._done = 0
        self._started = self._told = time.monotonic()

    def __call__(self, result: object) -> None:
        """Count one run."""
        self._done += 1
        now = time.monotonic()
        if now - self._told < _EVERY_SECONDS and self._done < self._wanted:
            return
        self._told = now
        left = (now - self._started) / self._done * (self._wanted - self._done)
        progress(f"{self._done} of {self._wanted} runs, about {left:.0f} s left")
