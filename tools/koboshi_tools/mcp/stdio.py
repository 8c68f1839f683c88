"""A server as a program: JSON messages, one a line, over its standard input and output.

Covered: a line without an end, lines that are no messages, a program that ends or never does. Such lines are skipped,
since programs greet people on their output; a program that writes nothing else is ended. What it writes on its standard
error is kept for an error message, the last of it only. At the end its input is closed, and after a moment its whole
process group is ended.

Not covered: a descendant that leaves the process group.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from .definitions import clean
from .launching import Launch

# A page of text with a picture in base64 fits; a line without an end stops here.
MAX_LINE_BYTES = 8 << 20
MAX_JUNK_LINES = 1000
_LAST_WORDS_BYTES = 2048
_SHOWN_WORDS = 300
# A well-behaved program ends when its input does; one that does not is given as long again after each signal.
_GRACE_SECONDS = 1.0
_POLL_SECONDS = 0.01
_GONE = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class StdioProgram:
    """One program, started once; `streams` is the transport that the client takes."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._process: Process | None = None
        self._last_words = b""
        self._fault = ""
        self._silent = anyio.Event()

    @property
    def ended(self) -> bool:
        """Whether it was started and is no longer there."""
        return self._process is not None and self._process.returncode is not None

    def epitaph(self) -> str:
        """Return what is known of its end, on one line."""
        said = clean(self._last_words.decode("utf-8", "replace")[-_SHOWN_WORDS:], _SHOWN_WORDS)
        code = None if self._process is None else self._process.returncode
        how = self._fault or ("" if code is None else f"it ended with code {code}")
        return "; ".join(part for part in (how, f"its last words: {said}" if said else "") if part)

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[Streams]:
        """Start it, and end it with the block. Raises OSError where it cannot be started."""
        self._process = process = await anyio.open_process(
            list(self._launch.command),
            env=dict(self._launch.environment),
            cwd=self._launch.folder,
            start_new_session=True,
        )
        to_client, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_server, from_client = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, process, to_client)
            group.start_soon(_write, process, from_client, to_client)
            group.start_soon(self._listen, process.stderr)
            try:
                yield from_server, to_server
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
                    for stream in (to_client, from_server, to_server, from_client):
                        await stream.aclose()
                group.cancel_scope.cancel()

    async def over(self) -> None:
        """Wait until its code and its last words are known; not for long, as it may live on without its pipes."""
        if self._process is not None:
            await _waited(self._process)
            with anyio.move_on_after(_GRACE_SECONDS):
                await self._silent.wait()

    async def _read(self, process: Process, to_client: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        assert process.stdout is not None
        try:
            async with to_client:
                with suppress(*_GONE):
                    await self._pass_on(process, process.stdout, to_client)
        finally:
            # A pipe that nobody reads hides its end, and with it that of the program.
            with anyio.CancelScope(shield=True), suppress(*_GONE):
                while True:
                    await process.stdout.receive()

    async def _pass_on(
        self, process: Process, output: ByteReceiveStream, to_client: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> None:
        junk, rest = 0, bytearray()
        while len(rest) <= MAX_LINE_BYTES and junk <= MAX_JUNK_LINES:
            piece = await output.receive()
            rest += piece
            # A long line is looked through once, not anew with every piece of it.
            lines = rest.split(b"\n") if b"\n" in piece else [rest]
            rest = lines.pop()
            for line in lines:
                message = _message(bytes(line))
                junk += message is None
                if message is not None:
                    await to_client.send(message)
        self._fault = "it writes what is no message"
        _signal(process, signal.SIGKILL)

    async def _listen(self, stream: ByteReceiveStream | None) -> None:
        with suppress(*_GONE):
            while stream is not None:
                self._last_words = (self._last_words + await stream.receive())[-_LAST_WORDS_BYTES:]
        self._silent.set()


def _message(line: bytes) -> SessionMessage | None:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


async def _write(
    process: Process,
    from_client: MemoryObjectReceiveStream[SessionMessage],
    to_client: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    assert process.stdin is not None
    try:
        async with from_client:
            async for sent in from_client:
                line: Any = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.stdin.send(f"{line}\n".encode("utf-8", "replace"))
    except _GONE:
        # It no longer listens: whoever waits for an answer is told so by the end of its output.
        await to_client.aclose()


async def _end(process: Process) -> None:
    if process.stdin is not None:
        with suppress(*_GONE):
            await process.stdin.aclose()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if await _waited(process):
            break
        _signal(process, number)
    # Whatever it started and left behind goes as well, and with it the last ends of its pipes.
    _signal(process, signal.SIGKILL)
    with anyio.move_on_after(_GRACE_SECONDS):
        await process.wait()


async def _waited(process: Process) -> bool:
    """Say whether it ends within the grace. Not by `wait`, which a descendant that holds the pipes would keep up."""
    with anyio.move_on_after(_GRACE_SECONDS):
        while process.returncode is None:
            await anyio.sleep(_POLL_SECONDS)
    return process.returncode is not None


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
