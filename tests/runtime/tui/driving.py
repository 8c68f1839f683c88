"""Drive the terminal interface in a test: keys go in, lines of text come out, nothing is drawn anywhere."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from koboshi_runtime.home import open_home
from koboshi_runtime.store import Store
from koboshi_runtime.tui.app import KoboshiApp
from koboshi_runtime.tui.look import Look
from koboshi_runtime.tui.picking import WAITS

Driver = Callable[["Driven"], Awaitable[None]]


class Driven:
    """An application that runs, and the hand on its keyboard."""

    def __init__(self, app: KoboshiApp, pilot: Pilot[Any]) -> None:
        self.app, self._pilot = app, pilot
        self.seen: list[str] = []

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until what they began is done."""
        for key in keys:
            await self._pilot.press(key)
            await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is read or drawn any more."""
        await self._pilot.pause()
        # Whoever waits in a dialog ends when the test answers it. An empty list would mean all.
        if ending := [worker for worker in self.app.workers if worker.group != WAITS]:
            await self.app.workers.wait_for_complete(ending)
        await self._pilot.pause()

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait until something is so."""
        for _ in range(200):
            if seen():
                return
            await self._pilot.pause(0.05)
        raise AssertionError(f"never came about; the screen is\n{self.text()}")

    async def click(self, selector: str, line: int = 0) -> None:
        """Click on a part of the screen, on one of its lines."""
        await self._pilot.click(selector, offset=(4, line))
        await self.settle()

    async def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        await self._pilot.resize_terminal(width, height)
        await self.settle()

    def told(self) -> list[str]:
        """Return the messages that are shown, the newest last."""
        return [each.message for each in self.app._notifications]

    def lines(self) -> list[str]:
        """Return what is on the screen, a string a line."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    def text(self) -> str:
        """Return what is on the screen."""
        return "\n".join(self.lines())


def drive(home: Path, driver: Driver, *, size: tuple[int, int] = (80, 24), look: Look | None = None) -> None:
    """Open the interface over the home at `home`, and let `driver` use it."""

    async def run() -> None:
        opened = look or looking_at(home)
        app = KoboshiApp(opened)
        async with app.run_test(size=size) as pilot:
            driven = Driven(app, pilot)
            await driven.settle()
            await driver(driven)
        opened.store.close()

    asyncio.run(run())


def looking_at(path: Path) -> Look:
    """Return what the screens look at, for the home at `path`."""
    home = open_home(path=path)
    return Look(home, Store.open(home.traces))
