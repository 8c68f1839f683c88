"""Questions to a person at a terminal: on stderr, and escaped, because what is asked about was written by a model."""

import asyncio
import getpass
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from koboshi_policies import Answer

from ..text import plain

if TYPE_CHECKING:
    from ..records import CallIntent
    from ..store import Store

_LINE_BYTES = 4096


def attended() -> bool:
    """Say whether somebody can be shown a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class TerminalAsker:
    """Asks whether a call may be made; anything but a yes is a no. One question at a time."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def ask(self, run_id: str, intent: "CallIntent") -> Answer:
        """Show the call with the rule that asks, and return the answer."""
        async with self._one:
            decision, call = intent.decision, intent.made
            place = f" ({decision.rule}, {decision.file}:{decision.line})" if decision.file else ""
            shown = plain(f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}")
            click.echo(f"The agent wants to call: {shown}", err=True)
            click.echo(f"  {plain(decision.reason + place)}", err=True)
            click.echo("Allow it? [y/N] ", err=True, nl=False)
            said_yes = (await read_line()).strip().lower() in {"y", "yes"}
            return Answer.APPROVED if said_yes else Answer.REFUSED


class AttendedAsker:
    """Asks at the terminal and in the store at once; the first answer counts, and is stored either way."""

    def __init__(self, store: "Store", policy_hash: str) -> None:
        self._store, self._policy_hash = store, policy_hash
        self._terminal = TerminalAsker()

    async def ask(self, run_id: str, intent: "CallIntent") -> Answer:
        """Return the first answer that is given, or that there was none in time."""
        from ..approvals import answer_approval, put_question, wait_for_answer
        from ..store import StoreRuleError

        asked = await put_question(self._store, run_id, intent, self._policy_hash)
        here = asyncio.ensure_future(self._terminal.ask(run_id, intent))
        stored = asyncio.ensure_future(wait_for_answer(self._store, asked, intent.idempotency_key))
        try:
            await asyncio.wait({here, stored}, return_when=asyncio.FIRST_COMPLETED)
            if stored.done():
                click.echo(f"\n  {stored.result()}, not at this terminal", err=True)
            else:
                # Where somebody else was faster, that answer is the one that is waited for.
                with suppress(StoreRuleError):
                    answer_approval(self._store, asked.approval_id, here.result(), who=getpass.getuser())
            return await stored
        except asyncio.CancelledError:
            # What is said of the interruption begins on a line of its own.
            click.echo(err=True)
            raise
        finally:
            here.cancel()
            stored.cancel()


async def read_line() -> str:
    """Read a line from the terminal without a thread, so that Ctrl-C does not have to wait for the Enter key."""
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
