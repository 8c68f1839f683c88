"""`koboshi chat`: a conversation with the project's agent, at a terminal or through a pipe."""

import getpass
import sys
from typing import TYPE_CHECKING

import click

from .completing import MODEL
from .context import early_worker, echo_json, load_config_here, open_home, progress, project_dir
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..dialogue import Dialogue
    from ..runner import RunResult, RunSettings
    from ..served_model import ServedModel
    from ..session import Place, Session
    from ..worker_process import WorkerProcess

_HELP = "/good [WHY] and /bad [WHY] label the last answer, /new begins anew, /quit ends."
_LABELS = {"/good": "success", "/bad": "failure"}


@click.command()
@click.option(
    "--model", type=MODEL, metavar="REF", help="current, previous, base, a name or a hash; default the project's."
)
@click.option("--temperature", type=click.FloatRange(0), help="0 takes the likeliest token; default [run] temperature.")
@click.option("--seed", type=int, help="The same seed gives the same answers; default [run] seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an answer.")
def chat(model: str | None, temperature: float | None, seed: int | None, as_json: bool) -> None:
    """Talk with the project's agent; each question is stored as a run that can be labelled.

    Example: koboshi chat -C my-agent
    """
    with early_worker() as process:
        import asyncio

        from ..session import Place

        flags = {"run.temperature": temperature, "run.seed": seed}
        place = Place(open_home(), project_dir(), load_config_here(flags).settings)
        ask_for_trust(place.home, place.folder)
        asyncio.run(_chat(place, model, process, as_json=as_json))


async def _chat(place: "Place", model: str | None, process: "WorkerProcess | None", *, as_json: bool) -> None:
    from ..dialogue import Dialogue
    from ..served_model import ServedModel
    from ..session import open_session, reference_of
    from ..tasks import prompt_task

    async with open_session(place, model_ref=model, share=True, process=process) as session:
        runner, dialogue = session.runner(_settings(place, session, as_json=as_json)), Dialogue()
        shared = session.model if isinstance(session.model, ServedModel) else None
        follow = reference_of(place, session.project, model) == "current"
        if sys.stdin.isatty():
            progress(f"{session.project.name} on {session.model.info.name}. {_HELP}")
        if shared:
            await shared.rest()
        while (line := await _question()) is not None:
            if line.startswith("/"):
                dialogue = _command(line, session, dialogue)
                continue
            if shared:
                await _wake(shared, follow=follow)
            result = await runner.run(prompt_task(line), dialogue=dialogue)
            if shared:
                await shared.rest()
            _show(result, as_json=as_json)


async def _wake(shared: "ServedModel", *, follow: bool) -> None:
    """Take hold of the server's model again, and say so if it is another one by now."""
    before = shared.info.model_hash
    await shared.wake(follow=follow)
    if shared.info.model_hash != before:
        progress(f"{shared.info.name} went live meanwhile, and answers from here on.")


async def _question() -> str | None:
    """Return the next line that is not empty; None at the end of the input, or where the person says so."""
    from .terminal import read_line

    while True:
        if sys.stdin.isatty():
            click.echo("> ", err=True, nl=False)
            line = await read_line()
        else:
            line = sys.stdin.readline()
        if not line or line.strip() == "/quit":
            return None
        if line.strip():
            return line.strip()


def _settings(place: "Place", session: "Session", *, as_json: bool) -> "RunSettings":
    from ..records import Purpose
    from ..runner import RunSettings
    from .steps import show
    from .terminal import AttendedAsker, attended

    drawn = place.settings.run
    return RunSettings(
        purpose=Purpose.WORK,
        seed=drawn.seed,
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        asker=AttendedAsker(session.store, session.policy.hash) if attended() else None,
        watch=show if sys.stderr.isatty() and not as_json else None,
        check_settings=session.project.check_settings(allow_commands=False),
    )


def _command(line: str, session: "Session", dialogue: "Dialogue") -> "Dialogue":
    """Do what a line with a slash says, and return the conversation that goes on."""
    from ..dialogue import Dialogue

    word, _, rest = line.partition(" ")
    if word == "/new":
        return Dialogue()
    if word in _LABELS and dialogue.run_id is not None:
        _label(session, dialogue.run_id, _LABELS[word], rest.strip())
    else:
        progress("There is no answer yet." if word in _LABELS else _HELP)
    return dialogue


def _label(session: "Session", run_id: str, label: str, why: str) -> None:
    from ..records import Outcome, OutcomeLabel, OutcomeSource

    outcome = Outcome(label=OutcomeLabel(label), source=OutcomeSource.PERSON, who=getpass.getuser(), rationale=why)
    session.store.add_outcome(run_id, outcome)
    progress(f"{run_id} is labelled {label}.")


def _show(result: "RunResult", *, as_json: bool) -> None:
    from ..text import plain

    if as_json:
        told = {"run_id": result.run_id, "answer": result.answer, "outcome": result.outcome, "steps": result.steps}
        echo_json(told)
    elif result.answer is not None:
        click.echo(plain(result.answer, keep_lines=True))
    if result.answer is None:
        progress(f"no answer: the run ended by {result.reason.value}. See: koboshi traces show {result.run_id}")
