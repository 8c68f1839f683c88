"""What a server is started with: its command line, folder and environment, with the variables filled in.

A program gets `PATH`, `LANG`, an empty `HOME` of its own and what its entry declares, and nothing else of this
process's environment. `${NAME}`, `${env:NAME}`, `${NAME:-else}` take a variable of the operator's, `${workspaceFolder}`
is the project's workspace. A variable that is not set is an error: a server must not run with an empty token.

Not covered: what a program does whose entry does not confine it. It runs as the operator, and whoever agreed to the
project agreed to it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from .confining import confined, refuse_reach
from .servers import HttpServer, StdioServer

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WORKSPACE = "${workspaceFolder}"
_ASKED = re.compile(r"\$\{(?:input|command|config):[^}]*\}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where servers are started: the project's folder and workspace, the operator's environment, koboshi's home."""

    root: Path
    workspace: Path
    environment: Mapping[str, str]
    home: Path | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to be started, and nothing left to look up."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


def launch_of(server: StdioServer, around: Surroundings, home: Path) -> Launch:
    """Return how a server is started; `home` is its own. Raises UsageError for a missing variable or folder."""

    def filled(text: str) -> str:
        return _filled(server.name, text, around)

    folder = around.workspace if server.cwd is None else around.root / filled(server.cwd)
    if not folder.is_dir():
        raise UsageError(f"MCP server {server.name!r}: there is no folder {folder}")
    path = around.environment.get("PATH", os.defpath)
    own = {"PATH": path, "LANG": "C.UTF-8", "HOME": str(home)}
    declared = {name: filled(value) for name, value in server.env.items()}
    command = (filled(server.command), *map(filled, server.args))
    if server.koboshi.confine is not None:
        command = _confined(server, command, around, folder, home)
    return Launch(command, own | declared, folder)


def _confined(
    server: StdioServer, command: tuple[str, ...], around: Surroundings, folder: Path, home: Path
) -> tuple[str, ...]:
    asked = server.koboshi.confine
    assert asked is not None
    read, write = (
        [(around.root / _filled(server.name, path, around)).resolve() for path in paths]
        for paths in (asked.read, asked.write)
    )
    # The workspace is what agents work in; everything else of the project decides what they may do.
    workspace = around.workspace.resolve()
    kept = [around.root.resolve(), *([around.home.resolve()] if around.home else [])]
    refuse_reach(server.name, [path for path in (*read, *write) if not path.is_relative_to(workspace)], kept)
    # The program starts in its folder, so it sees that much.
    reached = (*read, *write)
    seen = [*read, *([] if any(folder.resolve().is_relative_to(path) for path in reached) else [folder.resolve()])]
    return confined(command, read=seen, write=[*write, home], network=asked.network, folder=folder.resolve())


def headers_of(server: HttpServer, around: Surroundings) -> dict[str, str]:
    """Return the headers of every request to a server. Raises UsageError for a variable that is not set."""
    return {name: _filled(server.name, value, around) for name, value in server.headers.items()}


def _filled(name: str, text: str, around: Surroundings) -> str:
    if asked := _ASKED.search(text):
        raise UsageError(
            f"MCP server {name!r}: {asked[0]} cannot be filled in here",
            hint="Use a variable of the environment: ${NAME}",
        )

    def value(found: re.Match[str]) -> str:
        variable, otherwise = found[1], found[2]
        known = around.environment.get(variable) or otherwise
        if known is None:
            raise UsageError(
                f"MCP server {name!r} needs the variable {variable}, which is not set", hint=f"export {variable}=..."
            )
        return known

    return _VARIABLE.sub(value, text.replace(_WORKSPACE, str(around.workspace)))
