"""Everything that is stored of a run as JSON, and back: the one format in which nothing is lost.

A log-probability that is not finite is null, and reads as NaN.
"""

import math
from collections.abc import Mapping
from typing import Any

from ..records import RunStatus, Trajectory
from .conversation import LeftOut


def raw_record(trajectory: Trajectory) -> dict[str, Any]:
    """Return everything that is stored of a run as JSON; a log-probability that is not finite is null."""
    record: dict[str, Any] = _finite(trajectory.model_dump(mode="json"))
    return record


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value


def read_raw(value: Mapping[str, Any]) -> Trajectory:
    """Return the trajectory of a raw record. Raises ValueError for a bad one, LeftOut for a run that has not ended."""
    turns = [_with_nan(turn) for turn in value.get("turns") or ()]
    trajectory = Trajectory.model_validate({**value, "turns": turns})
    if trajectory.end is None or trajectory.end.status is RunStatus.INTERRUPTED:
        raise LeftOut("a run that has not ended")
    return trajectory


def _with_nan(turn: Any) -> Any:
    """Return a turn with its log-probabilities as numbers; one of another shape is left for the schema to refuse."""
    if not isinstance(turn, dict) or not isinstance(turn.get("reply"), dict):
        return turn
    reply = dict(turn["reply"])
    for name in ("raw_logprobs", "behaviour_logprobs"):
        if isinstance(reply.get(name), list):
            reply[name] = [math.nan if each is None else each for each in reply[name]]
    return {**turn, "reply": reply}
