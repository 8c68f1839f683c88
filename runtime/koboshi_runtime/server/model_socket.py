"""The server's worker for other commands of the same user, over a UNIX socket in the home.

It speaks the frames of `worker.wire`. Each connection holds a lease on the live model of its beginning: whoever runs on
it never gets another model's words. The home is its owner's alone and out of every tool's reach, so that no token is
asked for: whoever can open this socket can open the model's file.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from koboshi_tools import KoboshiError

from ..model import GenerateRequest, KeepsRuns, Model, Piece, Reply, Streams
from ..worker import wire
from .service import Models

_READ_BYTES = 1 << 20


@dataclass(slots=True)
class SharedModel:
    """The listening side; `close` ends it with all connections."""

    models: Models
    _server: asyncio.Server | None = None
    _connections: set["asyncio.Task[None]"] = field(default_factory=set)

    async def listen(self, listener: socket.socket) -> None:
        """Take connections from now on."""
        self._server = await asyncio.start_unix_server(self._take, sock=listener, limit=_READ_BYTES)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            async with self.models.lease() as model:
                await _Connection(model, reader, writer).serve()
        except asyncio.CancelledError:
            # The server ends: whoever is connected sees its end closed.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def close(self) -> None:
        """Take no more connections, and close those there are."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def share_model(models: Models, listener: socket.socket) -> SharedModel:
    """Share a model on a socket that listens."""
    shared = SharedModel(models)
    await shared.listen(listener)
    return shared


@dataclass(slots=True)
class _Connection:
    """One client: its requests are answered side by side, each as a task."""

    model: Model
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _tasks: dict[int, "asyncio.Task[None]"] = field(default_factory=dict)

    async def serve(self) -> None:
        """Answer until the client hangs up."""
        info, begin = self.model.info.model_dump(mode="json"), getattr(self.model, "begin_id", None)
        self._send({"id": 0, "ok": True, "info": info, "begin_id": begin})
        inbox = wire.Inbox()
        try:
            while data := await self.reader.read(_READ_BYTES):
                for message in inbox.feed(data):
                    self._handle(message)
                await self.writer.drain()
        except (ConnectionError, ValueError, KeyError, TypeError):
            # What is no message comes from no client of ours: there is nothing more to say.
            return
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _handle(self, message: dict[str, Any]) -> None:
        key = message["id"]
        match message["op"]:
            case "cancel":
                if (task := self._tasks.get(message["key"])) is not None:
                    task.cancel()
            case "release":
                if isinstance(self.model, KeepsRuns):
                    self.model.release(message["run_id"])
            case _:
                task = self._tasks[key] = asyncio.create_task(self._answer(key, message))
                task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _answer(self, key: int, message: dict[str, Any]) -> None:
        try:
            answer = await self._do(key, message)
        except KoboshiError as error:
            self._send({"id": key, "ok": False, "error": str(error), "hint": error.hint})
        except (ValueError, KeyError, TypeError) as error:
            self._send({"id": key, "ok": False, "error": f"the request cannot be read: {error}", "hint": None})
        else:
            self._send({"id": key, "ok": True, **answer})

    async def _do(self, key: int, message: dict[str, Any]) -> dict[str, Any]:
        match message["op"]:
            case "generate":
                request, write = GenerateRequest.model_validate(message["request"]), self._writer(key, message)
                return (await write(request)).model_dump(mode="json")
            case "tokenize":
                pieces = tuple(Piece.model_validate(piece) for piece in message["pieces"])
                return {"ids": list(await self.model.tokenize(pieces))}
            case "score":
                return {"scores": list(await self.model.score(tuple(message["ids"]), message["start"]))}
            case other:
                raise KoboshiError(f"a server's worker answers no {other!r}")

    def _writer(self, key: int, message: dict[str, Any]) -> Callable[[GenerateRequest], Awaitable[Reply]]:
        model = self.model
        if not message.get("stream") or not isinstance(model, Streams):
            return model.generate
        return lambda request: model.stream(request, lambda more: self._send({"id": key, "more": more}))

    def _send(self, message: dict[str, Any]) -> None:
        if not self.writer.is_closing():
            self.writer.write(wire.encode(message))
