"""Ways to the tiny server: real processes, started from an entry as a project's file would hold it."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from koboshi_tools import Tool, ToolCall, ToolContext, ToolResult, execute
from koboshi_tools.mcp import McpHub, ServerOptions, StdioServer, Surroundings, mcp_tools

SERVER = Path(__file__).with_name("tiny_mcp_server.py")


def tiny(*ways: str, env: dict[str, str] | None = None, **options: Any) -> StdioServer:
    """Return the entry of a tiny server that behaves in these ways."""
    told = ServerOptions(**{"call_seconds": 20, "start_seconds": 20, **options})
    return StdioServer(name="tiny", command=sys.executable, args=(str(SERVER), *ways), env=env or {}, koboshi=told)


@contextmanager
def hub_of(folder: Path, server: StdioServer) -> Iterator[McpHub]:
    """Return the way to one server; whatever was started is ended."""
    hub = McpHub([server], Surroundings(folder, folder, os.environ))
    try:
        yield hub
    finally:
        hub.close()


@contextmanager
def tools_of(folder: Path, server: StdioServer) -> Iterator[dict[str, Tool]]:
    """Return a server's tools by their own names, accepted as they are offered at first."""
    with hub_of(folder, server) as hub:
        found = mcp_tools([server], {server.name: hub.listed(server.name)}, hub)
        yield {name.removeprefix("mcp__tiny__"): tool for name, tool in found.items()}


def make(tool: Tool, folder: Path, *, timeout_s: float = 30.0, **arguments: Any) -> ToolResult:
    """Make one call, as a run does."""
    call = ToolCall(name=tool.spec.name, arguments=arguments)
    return asyncio.run(execute(call, tool, ToolContext(folder), timeout_s=timeout_s))
