"""`koboshi traces replay`: a recorded run once more on any model, beside the run as it was, without effects."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from .completing import MODEL, RUN
from .context import load_config_here, open_home, progress, project_dir
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..records import Trajectory
    from ..session import Place
    from ..traces.replay import Replay

_SHOWN = 100


@click.command("replay")
@click.argument("run", type=RUN)
@click.option(
    "--model",
    "ref",
    type=MODEL,
    metavar="REF",
    help="current, previous, base, a name or a hash; default the project's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay_command(run: str, ref: str | None, as_json: bool) -> None:
    """Play a recorded run again on a model, beside the run as it was, without effects or a record.

    The recorded results answer the calls. A call that was not recorded is made only if its tool merely reads; at any
    other the replay ends, and says so.

    Example: koboshi traces replay @last --model previous
    """
    from ..session import Place
    from ..store import Store
    from ..traces.diff import compare
    from .traces import print_diff, run_ref

    place = Place(open_home(), project_dir(), load_config_here().settings)
    store = Store.open(place.home.traces)
    recorded = store.trajectory(store.resolve(run_ref(run)))
    ask_for_trust(place.home, place.folder)
    played = asyncio.run(_play(recorded, place, ref, show_steps=sys.stderr.isatty() and not as_json))
    answered = [each.model_dump(mode="json") for each in played.answered]
    print_diff(compare(recorded, played.trajectory), as_json=as_json, beside={"answered": answered})
    if not as_json:
        _tell(recorded, played)


async def _play(recorded: "Trajectory", place: "Place", ref: str | None, *, show_steps: bool) -> "Replay":
    from ..session import open_session
    from ..traces.replay import replay
    from .steps import show

    async with open_session(place, model_ref=ref, runs=1) as session:
        if recorded.header.project != session.project.name:
            progress(f"the run is of the project {recorded.header.project!r}: with -C DIR its rules and tools hold")
        return await replay(recorded, session, show if show_steps else None)


def _tell(recorded: "Trajectory", played: "Replay") -> None:
    from collections import Counter

    from koboshi_tools import canonical_json

    counts = Counter(each.by for each in played.answered)
    if counts:
        progress("Calls answered by: " + ", ".join(f"{by} {count}" for by, count in counts.items()))
    for each in played.unanswered:
        call = f"{each.call.name} {canonical_json(each.call.arguments)}"[:_SHOWN]
        progress(f"step {each.step}: {call} was not recorded, and may do more than read: the replay ends there")
    if recorded.redacted:
        progress("The run held a secret: the replay was told what is stored of it, which is not what the model read.")
    if played.trajectory.outcome == "unknown" and recorded.outcome != "unknown":
        progress("The replay is not judged: what judged the run needs a person, a workspace, or its end.")
