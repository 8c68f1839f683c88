"""What a decision depends on besides the call: what its run is for, and how often tools were called before.

The counts are handed in, so that deciding stays pure: who keeps them is the runtime's part, and a replay hands in those
of the log. A call counts if it was permitted, whatever came of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

PurposeName = Literal["work", "rollout", "eval", "gate", "bench", "canary"]
PURPOSES: tuple[PurposeName, ...] = get_args(PurposeName)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Calls made so far by tool: in this run, and in the last minute and hour by all runs of the same purpose."""

    purpose: str = "work"
    in_run: Mapping[str, int] = field(default_factory=dict)
    last_minute: Mapping[str, int] = field(default_factory=dict)
    last_hour: Mapping[str, int] = field(default_factory=dict)
