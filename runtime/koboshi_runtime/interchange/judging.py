"""What a record says of a run beside what was said in it: who it was, and how it went.

Programs have no word in common for it, so the plain ones are understood: `outcome` (success, failure, unknown),
`success` (true, false), and `reward` or `score` (1 or more is a success, 0 or less a failure, between them is kept as a
score that nobody has judged).
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..records import OutcomeLabel, Purpose


def judged(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Conversation` that a record's own keys say; ValueError for one that makes no sense."""
    label, score = verdict(value)
    purpose = value.get("purpose")
    known = [each.value for each in Purpose]
    if purpose is not None and purpose not in known:
        raise ValueError(f"purpose is one of {', '.join(known)}, not {purpose!r}")
    return {
        "label": label,
        "score": score,
        "purpose": Purpose(purpose or Purpose.WORK),
        "model": text_under(value, "model"),
        "run_id": text_under(value, "run_id", "id") or None,
        "created_at": utc(text_under(value, "created_at") or None),
    }


def text_under(value: Mapping[str, Any], *names: str) -> str:
    """Return the first text under one of `names`; an empty one if there is none."""
    return next((found for name in names if isinstance(found := value.get(name), str)), "")


def verdict(value: Mapping[str, Any]) -> tuple[OutcomeLabel, float | None]:
    """Return the label and the score that a record gives its run."""
    score = next((found for name in ("score", "reward") if _is_number(found := value.get(name))), None)
    outcome = value.get("outcome")
    if outcome is not None:
        if outcome not in [each.value for each in OutcomeLabel]:
            raise ValueError(f"outcome is success, failure or unknown, not {outcome!r}")
        return OutcomeLabel(outcome), score
    if isinstance(value.get("success"), bool):
        return (OutcomeLabel.SUCCESS if value["success"] else OutcomeLabel.FAILURE), score
    return label_of_reward(score), score


def label_of_reward(reward: float | None) -> OutcomeLabel:
    """Return what a reward says: a success from 1 on, a failure down from 0, and nothing between them."""
    if reward is None or 0 < reward < 1:
        return OutcomeLabel.UNKNOWN
    return OutcomeLabel.SUCCESS if reward >= 1 else OutcomeLabel.FAILURE


def utc(time: str | None) -> str | None:
    """Return an ISO 8601 time as the store writes it, one without a zone taken for UTC; ValueError for another."""
    if time is None:
        return None
    try:
        read = datetime.fromisoformat(time)
        return read.replace(tzinfo=read.tzinfo or UTC).astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        raise ValueError(f"{time[:40]!r} is no ISO 8601 time") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
