"""What a server is started with: its command line, folder and environment, with the variables filled in.

A program gets `PATH`, `LANG`, an empty `HOME` of its own and what its entry declares, and nothing else of this
process's environment. `${NAME}`, `${env:NAME}`, `${NAME:-else}` take a variable of the operator's, `${workspaceFolder}`
is the project's workspace. A variable that is not set is an error: a server must not run with an empty token.

Not covered: what the program does. It runs as the operator, outside of every sandbox, and whoever agreed to the project
agreed to it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from .servers import HttpServer, StdioServer

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WORKSPACE = "${workspaceFolder}"
_ASKED = re.compile(r"\$\{(?:input|command|config):[^}]*\}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where servers are started: the project's folder and workspace, and the operator's environment."""

    root: Path
    workspace: Path
    environment: Mapping[str, str]


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
    return Launch((filled(server.command), *map(filled, server.args)), own | declared, folder)


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
