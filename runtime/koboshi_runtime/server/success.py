"""Asks the watch while a server runs: without it a model that got worse would stay until somebody opens a session.

A rollback moves the registry's pointer, and the keeper follows that like any other change.
"""

import asyncio
import logging

from koboshi_tools import KoboshiError

from ..home import Home
from ..store import Store
from ..watch import follow

EVERY_S = 60.0

_log = logging.getLogger(__name__)


async def keep_watch(home: Home, store: Store, *, rollback: bool, every_s: float = EVERY_S) -> None:
    """Ask every `every_s` seconds until cancelled; what fails is logged, and asked again."""
    while True:
        await asyncio.sleep(every_s)
        try:
            found = await asyncio.to_thread(follow, home, store, rollback=rollback)
        except KoboshiError as error:
            _log.error("the watch could not be asked: %s", error)
            continue
        if found is not None and found.rolled_back:
            _log.warning("the watch %s", found.text)
