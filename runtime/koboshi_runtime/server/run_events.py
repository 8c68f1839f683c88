"""What happens in a run, as events: told while it goes on, and read back from what is stored when it has ended."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, assert_never

from koboshi_tools import ToolResult

from ..records import CallIntent, Trajectory, TurnRecord
from ..store.recorder import Event

_KEPT_EVENTS = 10_000
"""Of one run: more than its budgets allow."""


@dataclass(slots=True)
class EventLog:
    """The events of one run that goes on; any number of readers follow from the first."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, event: Event) -> None:
        """Add what a run's recorder was told."""
        if len(self.events) < _KEPT_EVENTS:
            self.add(as_json(event))

    def add(self, event: dict[str, Any], *, last: bool = False) -> None:
        """Add an event as it is, and say whether it is the last."""
        self.events.append(event)
        self.ended = self.ended or last
        self._more.set()
        self._more = asyncio.Event()

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every event, waiting for those to come, until the last."""
        place = 0
        while True:
            more = self._more
            while place < len(self.events):
                yield self.events[place]
                place += 1
            if self.ended:
                return
            await more.wait()


def as_json(event: Event) -> dict[str, Any]:
    """Return one event of a run."""
    match event:
        case TurnRecord():
            return {
                "type": "turn",
                "step": event.index,
                "kind": event.kind,
                "text": event.reply.text,
                "error": event.error,
                "output_tokens": len(event.reply.ids),
                "seconds": round(event.reply.seconds, 3),
            }
        case CallIntent():
            return {
                "type": "call",
                "step": event.step_index,
                "call": event.call_index,
                "tool": event.call.name,
                "arguments": event.call.arguments,
                "decision": {"verdict": event.decision.verdict, "reason": event.decision.reason},
            }
        case ToolResult():
            return {
                "type": "result",
                "transport": event.transport,
                "verdict": event.verdict,
                "output": event.output,
                "seconds": round(event.seconds, 3),
            }
        case _:
            assert_never(event)


def stored_events(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    """Yield the events of a run that is stored, in their order."""
    for turn in trajectory.turns:
        yield as_json(turn)
        for call in trajectory.calls:
            if call.intent.step_index == turn.index:
                yield as_json(call.intent)
                if call.result is not None:
                    yield as_json(call.result)
    yield {"type": "end", **state_of(trajectory)}


def state_of(trajectory: Trajectory) -> dict[str, Any]:
    """Return where a stored run stands."""
    end = trajectory.end
    return {
        "run_id": trajectory.run_id,
        "status": end.status if end else "running",
        "answer": end.answer if end else None,
        "outcome": trajectory.outcome,
        "reason": end.reason if end else None,
        "error": end.error if end else None,
        "steps": len(trajectory.turns),
        "model": trajectory.header.model_hash,
    }
