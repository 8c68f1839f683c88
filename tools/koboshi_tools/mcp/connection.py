"""One server and the way to it: started when it is first needed, listened to, and started again after it died.

One task holds the connection open from its beginning to its end, because the client's own tasks live inside it. A tool
is called only if its server describes it as it was accepted; a server that says that its tools changed is asked again
before the next call. A call that gets no answer in time has its server asked whether it lives: one that stays silent is
ended, and the next call starts it anew.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, Implementation, ToolListChangedNotification
from pydantic import ValidationError

from ..errors import KoboshiError, ToolError
from .definitions import Definition, Listed, clean, listed
from .launching import Surroundings, headers_of, launch_of
from .results import result_text
from .servers import McpServer, StdioServer
from .stdio import StdioProgram

_MAX_PAGES = 50
_MAX_TOOLS = 500
_ALIVE_SECONDS = 5.0
_ERROR_CHARACTERS = 500


class McpServerError(KoboshiError):
    """A server could not be reached, went away, or broke the protocol."""


class DriftedToolError(McpServerError):
    """A server describes a tool otherwise than it was accepted."""


@dataclass(slots=True)
class _Open:
    """A connection that stands. `stale` says that what it lists may have changed."""

    client: Client
    program: StdioProgram | None
    offered: Listed
    stale: asyncio.Event = field(default_factory=asyncio.Event)


class Connection:
    """The way to one server; used in one event loop."""

    def __init__(self, server: McpServer, around: Surroundings) -> None:
        self._server = server
        self._around = around
        self._open: _Open | None = None
        self._holder: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._one = asyncio.Lock()

    async def listed(self) -> Listed:
        """Return what the server offers now. Raises McpServerError, UsageError."""
        return (await self._opened()).offered

    async def call(self, definition: Definition, arguments: dict[str, Any]) -> str:
        """Return the answer of a tool as text.

        Raises ToolError where the tool says that it failed, DriftedToolError where it is not the one that was accepted,
        TimeoutError, and McpServerError for everything else.
        """
        opened = await self._opened()
        self._refuse_drifted(opened, definition)
        try:
            result = await opened.client.call_tool(
                definition.name, arguments, read_timeout_seconds=self._server.koboshi.call_seconds
            )
        except MCPError as error:
            raise await self._failed(opened, error) from error
        except (ValidationError, RuntimeError, OSError, httpx2.HTTPError) as error:
            raise self._error(f"answered what is no result: {error}") from error
        return self._answer(result)

    async def close(self) -> None:
        """End the connection, and the program behind it."""
        self._closing.set()
        if self._holder is not None:
            if self._open is None:
                # It does not look at the event before it stands.
                self._holder.cancel()
            await asyncio.wait([self._holder])
        self._open, self._holder = None, None

    def _answer(self, result: CallToolResult) -> str:
        told = result.model_dump(mode="json", by_alias=True)
        text = result_text(told["content"], told.get("structuredContent"))
        if result.is_error:
            raise ToolError(text)
        return text

    def _refuse_drifted(self, opened: _Open, definition: Definition) -> None:
        found = next((one for one in opened.offered.definitions if one.name == definition.name), None)
        if found is not None and found.digest == definition.digest:
            return
        now = "is described otherwise" if found else "is no longer offered"
        raise DriftedToolError(
            f"{definition.name!r} of MCP server {self._server.name!r} {now} since it was accepted",
            hint="See what changed: koboshi tools accept",
        )

    async def _opened(self) -> _Open:
        async with self._one:
            if self._open is not None and self._is_over(self._open):
                await self.close()
            if self._open is None:
                self._open = await self._start()
            elif self._open.stale.is_set():
                self._open.stale.clear()
                self._open.offered = await self._list_again(self._open)
            return self._open

    def _is_over(self, opened: _Open) -> bool:
        gone = opened.program is not None and opened.program.ended
        return gone or self._closing.is_set() or self._holder is None or self._holder.done()

    async def _list_again(self, opened: _Open) -> Listed:
        try:
            return await self._list(opened.client)
        except (MCPError, ValidationError) as error:
            # What it offers is not known, so nothing of it may be called.
            self._closing.set()
            raise self._error(f"changed its tools and does not say to what: {error}") from error

    async def _start(self) -> _Open:
        ready: asyncio.Future[_Open] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._holder = asyncio.create_task(self._hold(ready))
        limit = self._server.koboshi.start_seconds
        try:
            return await asyncio.wait_for(asyncio.shield(ready), limit)
        except TimeoutError:
            ready.cancel()
            self._holder.cancel()
            raise self._error(f"did not begin to speak within {limit:g} s") from None

    async def _hold(self, ready: "asyncio.Future[_Open]") -> None:
        """Keep a connection open until it is closed; `ready` gets it, or the reason why there is none."""
        with tempfile.TemporaryDirectory(prefix="koboshi-mcp-") as home:
            program: StdioProgram | None = None
            try:
                if isinstance(self._server, StdioServer):
                    program = StdioProgram(launch_of(self._server, self._around, Path(home)))
                async with self._client(program, stale := asyncio.Event()) as client:
                    opened = _Open(client, program, await self._list(client), stale)
                    if not ready.done():
                        ready.set_result(opened)
                    await self._closing.wait()
            except asyncio.CancelledError:
                if not ready.done():
                    ready.set_exception(self._error("was ended before it began to speak"))
                raise
            except Exception as error:
                # Whatever goes wrong before it stands is the reason; afterwards each call finds out for itself.
                if not ready.done():
                    ready.set_exception(self._unstarted(error, program, await self._epitaph(program)))

    @asynccontextmanager
    async def _client(self, program: StdioProgram | None, stale: asyncio.Event) -> AsyncIterator[Client]:
        async def noticed(message: object) -> None:
            if isinstance(message, ToolListChangedNotification):
                stale.set()

        async with (
            self._transport(program) as transport,
            Client(
                transport,
                client_info=Implementation(name="koboshi", version=version("koboshi")),
                read_timeout_seconds=self._server.koboshi.start_seconds,
                message_handler=noticed,
                cache=None,
            ) as client,
        ):
            yield client

    @asynccontextmanager
    async def _transport(self, program: StdioProgram | None) -> AsyncIterator[Any]:
        if isinstance(self._server, StdioServer):
            assert program is not None
            yield program.streams()
            return
        limits = httpx2.Timeout(self._server.koboshi.start_seconds, read=self._server.koboshi.call_seconds)
        headers = headers_of(self._server, self._around)
        # Without the proxies and the netrc of the environment, and nowhere but where the entry says.
        async with httpx2.AsyncClient(headers=headers, timeout=limits, trust_env=False) as http:
            yield streamable_http_client(self._server.url, http_client=http)

    async def _list(self, client: Client) -> Listed:
        found: list[Definition] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            dumped = (tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools)
            found += [Definition.model_validate(one) for one in dumped]
            cursor = page.next_cursor
            if cursor is None or len(found) > _MAX_TOOLS:
                break
        info = client.server_info
        return listed(info.version if info else "", found[:_MAX_TOOLS])

    async def _failed(self, opened: _Open, error: MCPError) -> Exception:
        if error.code == CONNECTION_CLOSED:
            self._closing.set()
            epitaph = await self._epitaph(opened.program)
            return self._error(
                f"went away during the call ({epitaph or 'the connection closed'}); the next starts it anew"
            )
        if error.code != REQUEST_TIMEOUT:
            return self._error(f"refused the call: {error.message}")
        if not await self._lives(opened):
            self._closing.set()
        return TimeoutError(
            f"MCP server {self._server.name!r} gave no answer in {self._server.koboshi.call_seconds:g} s"
        )

    async def _lives(self, opened: _Open) -> bool:
        try:
            async with asyncio.timeout(min(_ALIVE_SECONDS, self._server.koboshi.call_seconds)):
                await opened.client.list_tools()
        except (MCPError, TimeoutError):
            return False
        return True

    async def _epitaph(self, program: StdioProgram | None) -> str:
        if program is None:
            return ""
        await program.over()
        return program.epitaph()

    def _unstarted(self, error: Exception, program: StdioProgram | None, epitaph: str) -> Exception:
        if isinstance(error, KoboshiError):
            return error
        if isinstance(error, OSError) and program is not None:
            return self._error(f"cannot be started: {error.strerror} ({error.filename})")
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        return self._error(f"cannot be used: {error}" + (f" ({epitaph})" if epitaph else ""))

    def _error(self, text: str) -> McpServerError:
        return McpServerError(f"MCP server {self._server.name!r} {clean(text, _ERROR_CHARACTERS)}")
