"""`koboshi traces blame`: the step at which a failed run went wrong, found by going on from before each step again."""

import asyncio
from typing import TYPE_CHECKING

import click

from .completing import MODEL, RUN
from .context import echo_json, load_config_here, open_home, progress, project_dir, table
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..records import Trajectory
    from ..session import Place
    from ..traces.blame import Blame


_SHOWN = 100


@click.command("blame")
@click.argument("run", type=RUN)
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="Forks at each place tried.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    default=0.8,
    show_default=True,
    help="How freely the forks are written.",
)
@click.option("--model", "ref", type=MODEL, metavar="REF", help="Whose forks; default the model that made the run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def blame_command(run: str, samples: int, temperature: float, ref: str | None, as_json: bool) -> None:
    """Find the first bad step of a failed run.

    The run is gone on with from behind its first steps, several times, on copies where a tool does more than read. The
    first bad step is the one from before which a success was still made, and from behind which none was. The forks are
    kept as rollouts.

    Example: koboshi traces blame @last --samples 8
    """
    from ..session import Place
    from ..store import Store
    from .traces import run_ref

    place = Place(open_home(), project_dir(), load_config_here().settings)
    store = Store.open(place.home.traces)
    failed = store.trajectory(store.resolve(run_ref(run)))
    ask_for_trust(place.home, place.folder)
    found = asyncio.run(_find(failed, place, ref, samples=samples, temperature=temperature))
    if as_json:
        echo_json(found.model_dump(mode="json") | {"hopeless": found.hopeless})
        return
    rows = [(str(each.turns), str(each.runs), str(each.successes)) for each in found.tallies]
    table(("from before step", "forks", "successes"), rows)
    progress(_said(found, failed))


async def _find(failed: "Trajectory", place: "Place", ref: str | None, *, samples: int, temperature: float) -> "Blame":
    from ..records import Purpose
    from ..runner import RunSettings
    from ..session import open_session
    from ..traces.blame import find_blame, was_solved

    async with open_session(place, model_ref=ref or _own(failed), runs=samples) as session:
        if failed.header.project != session.project.name:
            progress(f"the run is of the project {failed.header.project!r}: with -C DIR its rules and tools hold")
        runner = session.runner(RunSettings(purpose=Purpose.ROLLOUT, temperature=temperature))
        solved = was_solved(session.store, failed)
        return await find_blame(runner, failed, samples=samples, solved=solved)


def _own(failed: "Trajectory") -> str:
    return failed.header.model_hash.removeprefix("sha256:")


def _said(found: "Blame", failed: "Trajectory") -> str:
    if found.hopeless:
        return "No fork succeeded, not even from the beginning: no step can be blamed. More --samples may tell more."
    if found.first_bad is None:
        return "No step can be blamed."
    reply = " ".join(failed.turns[found.first_bad].reply.text.split())[:_SHOWN]
    solved = "Other runs of the task succeeded. " if found.solved else ""
    return f"{solved}The first bad step is {found.first_bad}, of {found.steps}: {reply}"
