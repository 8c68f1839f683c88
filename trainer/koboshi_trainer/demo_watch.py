"""Show a run while it happens: the question, each reply, each call with its result, as lines that are safe to print."""

from collections.abc import Callable

from koboshi_runtime.live import Watch
from koboshi_runtime.records import CallRecord, RunHeader, TurnRecord
from koboshi_runtime.text import plain

_WIDTH = 160


def watch_lines(show: Callable[[str], None]) -> Watch:
    """Return a watcher of one run that hands each line to `show`."""

    def watch(_: str, event: RunHeader | TurnRecord | CallRecord) -> None:
        for line in event_lines(event):
            show(line)

    return watch


def event_lines(event: RunHeader | TurnRecord | CallRecord) -> list[str]:
    """Return the lines of one event, each beginning with who speaks."""
    match event:
        case RunHeader():
            return _lines("asked", event.prompt)
        case TurnRecord():
            return _lines("model", event.reply.text) + _lines("error", event.error or "")
        case CallRecord():
            name = event.intent.call.name
            if event.result is None:
                return _lines("tool", f"{name} has no result")
            return _lines("tool", f"{name}, {event.result.transport.value}: {event.result.output}")


def _lines(who: str, text: str) -> list[str]:
    return [f"  {who:5} | {plain(line, width=_WIDTH)}" for line in text.splitlines() if line.strip()]
