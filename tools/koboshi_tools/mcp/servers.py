"""Which MCP servers a project names: the `mcpServers` JSON that other clients read too.

Taken in: `mcpServers` or `servers`, a `command` with `args`, `env` and `cwd`, or a `url` with `headers`. What other
clients keep beside these, their approvals above all, means nothing here: koboshi's own options stand under a server's
key `koboshi`, and rules about tools stand in policies. Reading a file starts nothing and looks up no variable.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from ..errors import UsageError
from ..values import EffectClass, Frozen
from .confining import Confinement

FILE_NAME = "mcp.json"

_NAME = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*")
# A tool's name may have 64 characters: 5 for `mcp__`, 2 between server and tool, and enough left for the tool.
_MAX_NAME = 24
_MAX_BYTES = 1 << 20
_TABLES = ("mcpServers", "servers")
_STDIO_TYPES = (None, "stdio")
_HTTP_TYPES = (None, "http", "streamable-http", "streamableHttp", "streamable_http")
_URL = re.compile(r"https?://[^\s]+")

_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class ServerOptions(Frozen):
    """The operator's word on a server, under its key `koboshi`.

    `effect` holds for every tool, `effects` for those whose own names a glob matches, `tools` are the globs of those
    that are taken at all. Without an effect a tool of a program may do anything, and one behind a URL reaches out.
    `confine` puts a program in a sandbox.
    """

    effect: EffectClass | None = None
    effects: dict[str, EffectClass] = Field(default_factory=dict)
    idempotent: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("*",)
    confine: Confinement | None = None
    start_seconds: float = Field(default=30.0, gt=0, le=600)
    call_seconds: float = Field(default=60.0, gt=0, le=3600)


class StdioServer(Frozen):
    """A program that speaks over its standard input and output; `cwd` None is the project's workspace."""

    name: str
    command: _Text = Field(min_length=1)
    args: tuple[_Text, ...] = ()
    env: dict[_Text, _Text] = Field(default_factory=dict)
    cwd: _Text | None = None
    koboshi: ServerOptions = ServerOptions()


class HttpServer(Frozen):
    """A server behind a URL, by streamable HTTP."""

    name: str
    url: str = Field(pattern=_URL.pattern)
    headers: dict[str, str] = Field(default_factory=dict)
    koboshi: ServerOptions = ServerOptions()


McpServer = StdioServer | HttpServer


def load_servers(path: Path) -> tuple[McpServer, ...]:
    """Return the servers that the file names and does not disable, none if there is no file. Raises UsageError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{path} has {len(data)} bytes, and {_MAX_BYTES} are read")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", hint="Comments are not JSON either.") from error
    return tuple(_server(path, name, entry) for name, entry in _entries(path, content).items() if _enabled(entry))


def _entries(path: Path, content: Any) -> Mapping[str, Any]:
    found = [content[key] for key in _TABLES if key in content] if isinstance(content, dict) else []
    if len(found) != 1 or not isinstance(found[0], dict):
        raise UsageError(
            f"{path} names no servers", hint='It reads: {"mcpServers": {"files": {"command": "...", "args": []}}}'
        )
    return found[0]


def _enabled(entry: Any) -> bool:
    return not (isinstance(entry, dict) and entry.get("disabled") is True)


def _server(path: Path, name: str, entry: Any) -> McpServer:
    where = f"{path}: server {name!r}"
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise UsageError(
            f"{where} cannot be part of a tool's name",
            hint=f"Use letters, digits, - and single _ between them, at most {_MAX_NAME}.",
        )
    if not isinstance(entry, dict) or ("command" in entry) == ("url" in entry):
        raise UsageError(f"{where} has not one of command and url", hint="Give a program's command, or a URL.")
    model: type[StdioServer | HttpServer] = StdioServer if "command" in entry else HttpServer
    _refuse_unsupported(where, entry, _STDIO_TYPES if model is StdioServer else _HTTP_TYPES)
    own = {key: value for key, value in entry.items() if key in model.model_fields and key != "name"}
    try:
        return model(name=name, **own)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        said = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(f"{where}: {key}: {said}") from error


def _refuse_unsupported(where: str, entry: Mapping[str, Any], types: tuple[str | None, ...]) -> None:
    kind = entry.get("type")
    if kind not in types:
        raise UsageError(f"{where} is of type {kind!r}", hint="koboshi speaks stdio and streamable HTTP.")
    if "envFile" in entry:
        raise UsageError(f"{where}: envFile is not read", hint='Name each variable in env: {"TOKEN": "${TOKEN}"}')
