"""Where a reply to a conversation belongs: the next step of the run that it goes on with, or the first of a new one.

It goes on with a run if the last replies since the question are exactly those that are stored of it, the run has not
ended, nobody else is writing that step, and model, tools and system text are those that it began with.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from koboshi_tools import ToolCall, UsageError

from ..ids import new_id
from ..records import Split
from ..store import Store
from .messages import Asked, Message, PromptWriter, Said


@dataclass(frozen=True, slots=True)
class StepPlace:
    """A step of a run. `split` is that of a run which begins here; `calls` are those of the step before."""

    run_id: str
    step: int
    question: str
    split: Split = Split.TEST
    parent: str | None = None
    calls: tuple[ToolCall, ...] = ()


async def find_place(
    store: Store, taken: set[tuple[str, int]], messages: Sequence[Message], writer: PromptWriter
) -> StepPlace:
    """Return the place of the next reply, which is in `taken` from then on."""
    asked = max(place for place, message in enumerate(messages) if isinstance(message, Asked))
    question = messages[asked]
    text = question.text if isinstance(question, Asked) else ""
    replies = [message for message in messages[asked:] if isinstance(message, Said)]
    run_id = replies[-1].written.run_id if replies and replies[-1].written else None
    step = _trailing(replies, run_id)
    # Nothing is awaited between looking and taking.
    if run_id is not None and (run_id, step) not in taken and _stands_at(store, run_id, step, writer):
        taken.add((run_id, step))
        return StepPlace(run_id, step, text, calls=replies[-1].calls)
    before = [message.written.run_id for message in messages if isinstance(message, Said) and message.written]
    parent = next((found for found in reversed(before) if found), None)
    # In a thread: it waits for a durable commit, and others' can share it.
    split = await asyncio.to_thread(store.assign_split, text)
    return StepPlace(new_id(), 0, text, split, parent)


def _trailing(replies: Sequence[Said], run_id: str | None) -> int:
    """Return how many of the last replies are of that run."""
    others = [place for place, reply in enumerate(replies) if not reply.written or reply.written.run_id != run_id]
    return len(replies) - (others[-1] + 1 if others else 0)


def _stands_at(store: Store, run_id: str, step: int, writer: PromptWriter) -> bool:
    try:
        stored = store.trajectory(run_id)
    except UsageError:
        # It was stored in another home, or forgotten.
        return False
    header, manner = stored.header, writer.manner
    begun_alike = header.model_hash == writer.model.info.model_hash and header.tool_specs == manner.tools
    return begun_alike and header.system == manner.system and stored.end is None and len(stored.turns) == step
