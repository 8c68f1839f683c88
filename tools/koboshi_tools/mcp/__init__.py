"""Tools of other people's MCP servers, and ours as one."""

from .servers import FILE_NAME, HttpServer, McpServer, ServerOptions, StdioServer, load_servers

__all__ = ["FILE_NAME", "HttpServer", "McpServer", "ServerOptions", "StdioServer", "load_servers"]
