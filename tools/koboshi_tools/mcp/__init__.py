"""Tools of other people's MCP servers."""

from .confining import Confinement
from .definitions import Definition, Listed, tool_name
from .hub import McpHub
from .launching import Surroundings
from .pins import LOCK_FILE, read_pins, write_pins
from .servers import FILE_NAME, HttpServer, McpServer, ServerOptions, StdioServer, load_servers
from .toolset import mcp_tools

__all__ = [
    "FILE_NAME",
    "LOCK_FILE",
    "Confinement",
    "Definition",
    "HttpServer",
    "Listed",
    "McpHub",
    "McpServer",
    "ServerOptions",
    "StdioServer",
    "Surroundings",
    "load_servers",
    "mcp_tools",
    "read_pins",
    "tool_name",
    "write_pins",
]
