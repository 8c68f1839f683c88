"""`koboshi serve`: let other programs use what a project offers."""

import asyncio
from typing import TYPE_CHECKING

import click

from koboshi_tools import UsageError

from .context import load_config_here, open_home, progress, project_dir
from .trust import ask_for_trust

if TYPE_CHECKING:
    from ..session import Place


@click.command()
@click.option("--mcp", is_flag=True, help="Speak the Model Context Protocol on standard input and output.")
def serve(mcp: bool) -> None:
    """Offer a project's tools to other programs, under its rules.

    Example: koboshi serve --mcp -C my-project
    """
    from ..session import Place

    if not mcp:
        raise UsageError("say what to serve", hint="Try: koboshi serve --mcp")
    place = Place(open_home(), project_dir(), load_config_here().settings)
    ask_for_trust(place.home, place.folder)
    asyncio.run(_serve(place))


async def _serve(place: "Place") -> None:
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
