"""What leaves the home in a record: nothing that the redactor of this process knows, in text or in ids.

A run was redacted when it was stored, by what was known then. A pattern that was configured since holds for its export
as well: ids cannot be redacted in part, so those of a stretch that holds a secret are left out whole.
"""

from collections.abc import Callable
from typing import Any

from ..records import Trajectory, TurnRecord
from ..redact import redactor

_OF_IDS = ("ids", "sampled", "raw_logprobs", "behaviour_logprobs")


def leave(trajectory: Trajectory, record: Callable[[Trajectory], dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a run, made by `record`, without secrets."""
    turns = tuple(_without_ids(turn) for turn in trajectory.turns)
    found: dict[str, Any] = redactor().value(record(trajectory.model_copy(update={"turns": turns})))
    return found


def _without_ids(turn: TurnRecord) -> TurnRecord:
    reply = turn.reply
    if _holds_secret(reply.text):
        reply = reply.model_copy(update=dict.fromkeys(_OF_IDS, ()))
    segments = tuple(
        segment.model_copy(update={"ids": ()}) if _holds_secret(segment.text) else segment for segment in turn.segments
    )
    return turn.model_copy(update={"reply": reply, "segments": segments})


def _holds_secret(text: str) -> bool:
    return redactor().text(text) != text
