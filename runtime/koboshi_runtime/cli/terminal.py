"""Questions to a person at a terminal: on stderr, and escaped, because what is asked about was written by a model."""

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import click

from ..text import plain

if TYPE_CHECKING:
    from ..records import CallIntent

_LINE_BYTES = 4096


def attended() -> bool:
    """Say whether somebody can be shown a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class TerminalAsker:
    """Asks whether a call may be made; anything but a yes is a no. One question at a time."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def ask(self, run_id: str, intent: "CallIntent") -> bool:
        """Show the call with the rule that asks, and return the answer."""
        async with self._one:
            decision, call = intent.decision, intent.call
            place = f" ({decision.rule}, {decision.file}:{decision.line})" if decision.file else ""
            shown = plain(f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}")
            click.echo(f"The agent wants to call: {shown}", err=True)
            click.echo(f"  {plain(decision.reason + place)}", err=True)
            click.echo("Allow it? [y/N] ", err=True, nl=False)
            return (await _read_line()).strip().lower() in {"y", "yes"}


async def _read_line() -> str:
    """Read a line without a thread, so that Ctrl-C does not have to wait for the Enter key."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return os.read(sys.stdin.fileno(), _LINE_BYTES).decode("utf-8", "replace")


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
