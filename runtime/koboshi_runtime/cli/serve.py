"""`koboshi serve`: let other programs use the model, the agent, or the tools of a project."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koboshi_tools import UsageError

from .completing import MODEL
from .context import load_config_here, open_home, progress, project_dir
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..session import Place


@click.command()
@click.option("--host", metavar="ADDRESS", help="A loopback address; default [serve] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one; default [serve] port.")
@click.option(
    "--model", type=MODEL, metavar="REF", help="current, previous, base, a name or a hash; default the project's."
)
@click.option("--unit", is_flag=True, help="Print a systemd unit that serves this project, and serve nothing.")
@click.option("--mcp", is_flag=True, help="Speak the Model Context Protocol on standard input and output instead.")
def serve(host: str | None, port: int | None, model: str | None, unit: bool, mcp: bool) -> None:
    """Serve the model and the project's agent to programs of this machine, in the words of OpenAI's API.

    Example: koboshi serve --port 8756
    """
    from ..session import Place

    flags = {"serve.host": host, "serve.port": port}
    if mcp and (unit or model is not None or any(value is not None for value in flags.values())):
        raise UsageError("--mcp serves tools over standard input and output: it takes no other option")
    place = Place(open_home(), project_dir(), load_config_here(flags).settings)
    if unit:
        click.echo(_unit(place, {"--host": host, "--port": port, "--model": model}), nl=False)
        return
    ask_for_trust(place.home, place.folder)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve_mcp(place) if mcp else _serve(place, model))


_UNIT = """\
[Unit]
Description=Koboshi serves {project}

[Service]
Environment={home}
ExecStart={command}
Restart=on-failure
UMask=0077

[Install]
WantedBy=default.target
"""


def _unit(place: "Place", flags: Mapping[str, str | int | None]) -> str:
    """Return a unit for `systemctl --user` that runs this very command, without the flag that asks for the unit."""
    command = [str(Path(sys.argv[0]).absolute()), *(["-C", str(place.folder)] if place.folder else []), "serve"]
    for flag, value in flags.items():
        command += [flag, str(value)] if value is not None else []
    project = place.folder.name if place.folder else "the model"
    return _UNIT.format(
        project=project.replace("%", "%%"),
        home=_quoted(f"KOBOSHI_HOME={place.home.root}"),
        command=" ".join(_quoted(part.replace("$", "$$")) for part in command),
    )


def _quoted(word: str) -> str:
    """Return a word as systemd reads it: nothing in it is a specifier or a blank."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


async def _serve(place: "Place", model_ref: str | None) -> None:
    from ..server.serving import serve as serve_here
    from ..server.tokens import Scope, token_path

    def ready(url: str, model: str) -> None:
        progress(f"{model} at {url}, the token in {token_path(place.home, Scope.RUN)}")

    await serve_here(place, model_ref, ready)


async def _serve_mcp(place: "Place") -> None:
    from ..outside import NO_MODEL, OutsideCalls
    from ..session import open_session

    try:
        from ..mcp_server import serve as serve_mcp
    except ImportError as error:
        raise UsageError(f"serving needs the package {error.name!r}", hint="pip install 'koboshi[mcp]'") from error
    async with open_session(place, model=NO_MODEL) as session:
        calls = OutsideCalls.of(session)
        progress(f"{session.project.name}: {len(calls.offered)} tools over MCP, until standard input ends.")
        await serve_mcp(calls)
