"""Every server of a project in one event loop, on a thread of its own: tools are called from many threads and loops.

Nothing is started before it is needed. `close` ends every program that was; a process that is killed leaves programs
whose input has ended, which is how they know.
"""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from .definitions import Definition, Listed
from .launching import Surroundings
from .servers import McpServer

if TYPE_CHECKING:
    from .connection import Connection

Found = TypeVar("Found")


class McpHub:
    """The ways to a project's servers, by name."""

    def __init__(self, servers: Sequence[McpServer], around: Surroundings) -> None:
        self._servers = {server.name: server for server in servers}
        self._around = around
        self._connections: dict[str, Connection] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def call(self, server: str, definition: Definition, arguments: dict[str, Any]) -> str:
        """Return the answer of a tool as text; raises what `Connection.call` does."""
        return self._wait(self._connection(server).call(definition, arguments))

    def listed(self, server: str) -> Listed:
        """Return what a server offers now; raises what `Connection.listed` does."""
        return self._wait(self._connection(server).listed())

    def close(self) -> None:
        """End every connection and the thread; nothing can be called any more."""
        with self._lock:
            loop, self._loop = self._loop, None
            connections, self._connections = self._connections, {}
        if loop is None:
            return
        for connection in connections.values():
            asyncio.run_coroutine_threadsafe(connection.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)

    def _connection(self, name: str) -> "Connection":
        # Imported here: the client takes a second to import, and a project without servers should not wait for it.
        try:
            from .connection import Connection
        except ImportError as error:
            raise UsageError(
                f"MCP server {name!r} needs the package {error.name!r}", hint="pip install 'koboshi[mcp]'"
            ) from error

        with self._lock:
            if name not in self._connections:
                self._connections[name] = Connection(self._servers[name], self._around)
            return self._connections[name]

    def _wait(self, work: Coroutine[Any, Any, Found]) -> Found:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="koboshi-mcp", daemon=True).start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop).result()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
