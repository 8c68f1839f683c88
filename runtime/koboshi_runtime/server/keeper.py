"""Keeps the live model loaded, and changes it when the registry's pointer does, under requests that go on.

Whoever uses the model holds a lease on it: a request has one model from its first token to its last, an agent's run
from its first turn to its last. A change loads the new model beside the old one, gives it everything that begins, and
ends the old one when its last lease is given back (`overlap`); where memory is short it lets the old one end first, and
what begins meanwhile waits (`drain`). A model that does not load leaves the old one live. At no time are more than two
loaded. While nobody uses it the model may rest, unloaded; the next lease wakes it.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from koboshi_tools import KoboshiError

from ..model import Model
from ..models.registry import ModelEntry
from .metrics import Metrics

Manner = Literal["auto", "overlap", "drain"]
Load = Callable[[ModelEntry], Awaitable[Model]]

_LOOK_S = 0.5
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Loaded:
    """A model that is loaded, and how many use it; `unused` is set while nobody does."""

    entry: ModelEntry
    model: Model
    leases: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Keeper:
    """The live model of a server. `fits` says whether a second model can be loaded beside the first."""

    live_entry: Callable[[], ModelEntry]
    load: Load
    fits: Callable[[ModelEntry, Model], bool]
    metrics: Metrics
    manner: Manner = "auto"
    _live: _Loaded | None = None
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _ending: "asyncio.Task[None] | None" = None
    _refused: str | None = None
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _used: float = 0.0

    async def start(self) -> Model:
        """Load the live model. Raises KoboshiError if there is none, or it does not load."""
        return (await self._take(await asyncio.to_thread(self.live_entry))).model

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Model]:
        """Give the live model, which stays loaded for as long as the context lasts."""
        await self._open.wait()
        while (held := self._live) is None:
            # Before it is leased it may have gone to rest again.
            await self.wake()
        held.leases += 1
        held.unused.clear()
        try:
            yield held.model
        finally:
            held.leases -= 1
            self._used = time.monotonic()
            if not held.leases:
                held.unused.set()

    async def rest(self) -> bool:
        """Unload the model if nobody uses it and none is changed; returns whether it did."""
        live, ending = self._live, self._ending is not None and not self._ending.done()
        if live is None or live.leases or ending or self._changing.locked():
            return False
        self._live = None
        await live.model.close()
        return True

    async def wake(self) -> None:
        """Load the live model if the keeper rests. Raises KoboshiError if it does not load."""
        async with self._changing:
            if self._live is None:
                await self._take(await asyncio.to_thread(self.live_entry))
                # The pointer may have moved meanwhile.
                await self._follow()

    def unused_s(self) -> float:
        """Return for how long nobody has used the model; 0 while somebody does."""
        return 0.0 if self._live is not None and self._live.leases else time.monotonic() - self._used

    async def watch(self, pointer: Path) -> None:
        """Follow the pointer file until cancelled."""
        seen = _stamp(pointer)
        while True:
            await asyncio.sleep(_LOOK_S)
            if (found := _stamp(pointer)) != seen:
                seen = found
                await self.follow()

    async def follow(self) -> None:
        """Make the registry's live model the server's, if it is another; what fails is logged, and nothing changes."""
        async with self._changing:
            await self._follow()

    async def _follow(self) -> None:
        try:
            entry = await asyncio.to_thread(self.live_entry)
            if self._live is None or entry.manifest.model_hash in (self._live.entry.manifest.model_hash, self._refused):
                return
            await self._swap(entry)
            self.metrics.swaps.labels("done").inc()
            _log.warning("%s is live now", entry.manifest.name)
        except KoboshiError as error:
            self.metrics.swaps.labels("failed").inc()
            _log.error("the live model could not be changed: %s", error)

    async def close(self) -> None:
        """End every worker; requests under way lose their turn."""
        live, self._live = self._live, None
        if self._ending is not None:
            self._ending.cancel()
            with suppress(asyncio.CancelledError):
                await self._ending
        if live is not None:
            await live.model.close()

    async def _swap(self, entry: ModelEntry) -> None:
        if self._ending is not None:
            # A third model waits until there are two again.
            await asyncio.shield(self._ending)
        old = self._live
        assert old is not None, "the keeper was started"
        if self.manner == "overlap" or (self.manner == "auto" and self.fits(entry, old.model)):
            await self._take(entry)
            self._ending = asyncio.create_task(_end(old))
            return
        await self._drained(entry, old)

    async def _drained(self, entry: ModelEntry, old: _Loaded) -> None:
        self._open.clear()
        try:
            await _end(old)
            await self._take(entry)
        except KoboshiError:
            refused = self._refused
            # What was live before loads again: it did so once.
            await self._take(old.entry)
            self._refused = refused
            raise
        finally:
            self._open.set()

    async def _take(self, entry: ModelEntry) -> _Loaded:
        try:
            model = await self.load(entry)
        except KoboshiError:
            self._refused = entry.manifest.model_hash
            raise
        self._live, self._refused = _Loaded(entry, model), None
        self._live.unused.set()
        self.metrics.live(model.info.name, model.info.model_hash)
        self._open.set()
        return self._live


async def _end(loaded: _Loaded) -> None:
    while loaded.leases:
        await loaded.unused.wait()
    await loaded.model.close()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
