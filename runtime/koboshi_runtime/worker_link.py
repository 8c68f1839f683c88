"""A connection to a model worker: many requests at once over one stream, each answered by its key.

When the stream ends, or holds what is no message, everybody who waits is told `LinkLost`, and the link is of no more
use.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from koboshi_tools import KoboshiError

from .model import Tell
from .worker import wire

_READ_BYTES = 1 << 20


class ModelError(KoboshiError):
    """The model gave no turn: its file does not load, its worker died again and again, or the request does not fit."""


class LinkLost(Exception):
    """Nobody is behind the link any more."""


@dataclass(slots=True)
class Link:
    """The two ends of a stream; `greeting` is answered by the worker's first message."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    dead: bool = False
    _next_key: int = 1
    _waiting: dict[int, "asyncio.Future[dict[str, Any]]"] = field(default_factory=dict)
    _told: dict[int, Tell] = field(default_factory=dict)
    _reading: "asyncio.Task[None] | None" = None

    async def greeting(self) -> dict[str, Any]:
        """Begin to read, and return what the worker says first. Raises ModelError if it says no, LinkLost."""
        hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[0] = hello
        self._reading = asyncio.create_task(self._read())
        return _checked(await hello)

    async def ask(self, op: str, *, tell: Tell | None = None, **fields: Any) -> dict[str, Any]:
        """Return the answer to a request; `tell` is given what comes before it. Raises ModelError, LinkLost."""
        key, self._next_key = self._next_key, self._next_key + 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        if tell is not None:
            self._told[key] = tell
        try:
            if self.dead:
                raise LinkLost
            self.writer.write(wire.encode({"id": key, "op": op, **fields}))
            return _checked(await future)
        except ConnectionError as error:
            raise LinkLost from error
        except asyncio.CancelledError:
            self.say("cancel", key=key)
            raise
        finally:
            self._waiting.pop(key, None)
            self._told.pop(key, None)

    def say(self, op: str, **fields: Any) -> None:
        """Send what needs no answer."""
        if not self.dead:
            key, self._next_key = self._next_key, self._next_key + 1
            self.writer.write(wire.encode({"id": key, "op": op, **fields}))

    def hang_up(self) -> None:
        """Close our end."""
        self.dead = True
        self.writer.close()

    async def closed(self) -> None:
        """Wait until nothing more is read."""
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        inbox = wire.Inbox()
        try:
            while data := await self.reader.read(_READ_BYTES):
                for message in inbox.feed(data):
                    self._hand_out(message)
        except (ConnectionError, ValueError, KeyError, TypeError):
            # After a frame that is no message the place of the next one is unknown.
            self.writer.close()
        finally:
            self.dead = True
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LinkLost())

    def _hand_out(self, message: dict[str, Any]) -> None:
        key = message["id"]
        if "more" in message:
            # Somebody who no longer waits is no longer told.
            if (tell := self._told.get(key)) is not None:
                tell(message["more"])
            return
        future = self._waiting.get(key)
        if future and not future.done():
            future.set_result(message)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer.pop("ok"):
        raise ModelError(answer["error"], hint=answer.get("hint"))
    answer.pop("id")
    return answer


class ToldOnce:
    """Tells a text once, though a worker that died makes its successor begin again."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._told = tell, ""

    def again(self) -> Tell:
        """Return what the next attempt is to tell; it goes on where the last one was."""
        written, known = "", self._told

        def tell(more: str) -> None:
            nonlocal written
            before, written = written, written + more
            # An attempt that writes something else is told to nobody; its reply is what counts.
            if written.startswith(known) and len(written) > len(known):
                self._tell(written[max(len(before), len(known)) :])
                self._told = written

        return tell
