"""An event loop in a thread of its own: plain calls use asynchronous parts, also where another loop runs already."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_Value = TypeVar("_Value")

# An interrupted run commits where it stands; a disk that takes longer is not worth a process that ignores Ctrl-C.
_INTERRUPTION_SECONDS = 10.0


class LoopThread:
    """Runs coroutines for callers in any thread, until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="koboshi", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Return what `work` returns. A Ctrl-C meanwhile cancels it, and is raised once it has wound up."""
        ended = threading.Event()

        async def carried() -> _Value:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(carried(), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            ended.wait(_INTERRUPTION_SECONDS)
            raise

    async def ask(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """Do `work` in this loop for a caller in another one."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loop.is_closed()

    def close(self) -> None:
        """End loop and thread; safe to call twice."""
        if not self.closed:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
