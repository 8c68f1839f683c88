"""A `Model` that is a running server's: its worker, over a socket in the home, instead of loading the file once more.

A connection holds the server's model: what was begun with it ends with it, also if the server changes its model
meanwhile; who rests between two questions may find the next one live. When the server ends, requests under way raise
ModelError.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .home import Home
from .model import GenerateRequest, ModelInfo, Piece, Reply, Tell
from .presence import model_socket, running_server
from .worker_link import Link, LinkLost, ModelError

_READ_BYTES = 1 << 20
_PATIENCE_S = 120.0
"""A server that rests, or is changing its model, loads one first; loading a second copy here would take as long."""


class ServedModel:
    """The model of a server; made by `served_model`."""

    def __init__(self, home: Home, link: Link, hello: dict[str, Any]) -> None:
        self.info = ModelInfo.model_validate(hello["info"])
        self.begin_id: int | None = hello["begin_id"]
        self._home, self._link = home, link

    async def rest(self) -> None:
        """Let go of the server's model until `wake`, so that nothing waits for a person who thinks."""
        await self.close()

    async def wake(self, *, follow: bool) -> None:
        """Take hold of it again, or of the one that is live by now if `follow`.

        Raises ModelError if the server has ended, or its model is another one and that is not wanted.
        """
        self._link, hello = await _connect(self._home)
        found = ModelInfo.model_validate(hello["info"])
        if found.model_hash != self.info.model_hash and not follow:
            await self.close()
            raise ModelError(
                f"the server's model is {found.name} by now, not {self.info.name}",
                hint="Begin anew, and the model that was asked for is loaded; what was said is stored.",
            )
        self.info, self.begin_id = found, hello["begin_id"]

    async def generate(self, request: GenerateRequest) -> Reply:
        """Write one turn; see `Model.generate`."""
        return Reply.model_validate(await self._ask("generate", request=request.model_dump(mode="json")))

    async def stream(self, request: GenerateRequest, tell: Tell) -> Reply:
        """Write one turn and tell it as it is written; see `Streams.stream`."""
        wanted = request.model_dump(mode="json")
        return Reply.model_validate(await self._ask("generate", tell=tell, request=wanted, stream=True))

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return the ids of `pieces`; see `Model.tokenize`."""
        return tuple((await self._ask("tokenize", pieces=[piece.model_dump() for piece in pieces]))["ids"])

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return log p(ids[i] | ids[:i]) from `start` on; see `Model.score`."""
        return tuple((await self._ask("score", ids=list(ids), start=start))["scores"])

    def release(self, run_id: str) -> None:
        """Say that a run wrote its last turn; see `KeepsRuns.release`."""
        self._link.say("release", run_id=run_id)

    async def close(self) -> None:
        """Hang up; safe to call twice."""
        self._link.hang_up()
        await self._link.closed()

    async def _ask(self, op: str, *, tell: Tell | None = None, **fields: Any) -> dict[str, Any]:
        try:
            return await self._link.ask(op, tell=tell, **fields)
        except LinkLost:
            raise ModelError("the server ended, and its model with it", hint="See: koboshi ps") from None


async def served_model(home: Home, suits: Callable[[ModelInfo], bool]) -> ServedModel | None:
    """Return the model of the server that runs on a home, or None if there is none, or none that `suits`."""
    if running_server(home) is None:
        return None
    try:
        found = ServedModel(home, *await _connect(home))
    except ModelError:
        # It is just starting, or just ending: the model is loaded here as if there were no server.
        return None
    if suits(found.info):
        return found
    await found.close()
    return None


async def _connect(home: Home) -> tuple[Link, dict[str, Any]]:
    """Return a link to the server's model, and what it says of itself. Raises ModelError if there is none."""
    try:
        reader, writer = await asyncio.open_connection(sock=_connected(model_socket(home)), limit=_READ_BYTES)
    except OSError as error:
        raise ModelError("the server does not answer", hint="See: koboshi ps") from error
    link = Link(reader, writer)
    try:
        return link, await asyncio.wait_for(link.greeting(), _PATIENCE_S)
    except BaseException as error:
        link.hang_up()
        await link.closed()
        if isinstance(error, LinkLost | TimeoutError):
            raise ModelError("the server does not answer", hint="See: koboshi ps") from error
        raise


def _connected(path: Path) -> socket.socket:
    """Return a connection to a UNIX socket, through its folder: the name may be longer than such a name can be."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection
