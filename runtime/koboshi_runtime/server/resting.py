"""Gives a night the memory and the GPU that the server's model holds: unloaded while nobody asks, loaded again after.

Whoever asks comes first: a request at night loads the model again, and waits for that. Written for CUDA as for the
processor, and tried on processors only.
"""

import asyncio
import logging

from koboshi_tools import KoboshiError

from ..home import Home
from ..night_sign import at_work
from .keeper import Keeper

_LOOK_S = 1.0
_UNUSED_S = 30.0
"""How long nobody has to ask before the model is unloaded: a conversation has pauses."""

_log = logging.getLogger(__name__)


async def rest_at_night(keeper: Keeper, home: Home, *, look_s: float = _LOOK_S, unused_s: float = _UNUSED_S) -> None:
    """Let the keeper rest while a night is at work and nobody asks, and wake it when the night is over.

    Runs until it is cancelled. A model that does not load again is logged, and tried again.
    """
    while True:
        await asyncio.sleep(look_s)
        night = await asyncio.to_thread(at_work, home)
        try:
            if night is None:
                await keeper.wake()
            elif keeper.unused_s() >= unused_s and await keeper.rest():
                _log.warning("the model is unloaded while a night is at work and nobody asks")
        except KoboshiError as error:
            _log.error("the model could not be loaded again: %s", error)
