"""The morning report as a value: what a night did, proved, refused and cost, with its headline.

Everything in it was measured in the night or is read from the store at its end. A night that did nothing has a report
too, with its reason; so has one that failed.
"""

import os
from collections.abc import Mapping
from enum import StrEnum

from koboshi_runtime.home import Home
from koboshi_tools import Frozen

from ..gate.values import GateVerdict
from ..night.readiness import Readiness

UNDO = "koboshi models rollback"


class Kind(StrEnum):
    """How a night ended."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    NOTHING = "nothing"
    FAILED = "failed"


class Learnt(Frozen):
    """What a training learnt from. `rows` are by label, the other counts of its dataset; losses are per learnt id."""

    method: str
    rows: dict[str, int]
    failure_classes: dict[str, int]
    tools: dict[str, int]
    demonstrations: int
    left_out: dict[str, int]
    optimizer_steps: int
    tokens: int
    losses: tuple[float, ...]
    held_out_before: dict[str, float]
    held_out_after: dict[str, float]


class Cost(Frozen):
    """What a night took: seconds by stage, over all its attempts; processor time and memory of the last attempt."""

    seconds: dict[str, float]
    processor_s: float
    peak_memory_mb: float

    @property
    def total_s(self) -> float:
        """All stages together."""
        return sum(self.seconds.values())


class Morning(Frozen):
    """The report of one night.

    `candidate` is the model that was trained, `reasons` why it was refused or why there was no night, `tried` the
    night's own rollouts by outcome, `disk` the bytes of each part of the home, and `seen` the number of the newest
    label that was learnt from. `watch` is how the live model stood when the night began, `went_back` whether the watch
    took it out since the last night; `refused_before` counts the nights since the last promotion whose candidate was
    refused.
    """

    night_id: str
    project: str
    began_at: str
    ended_at: str
    kind: Kind
    live: str
    candidate: str | None = None
    reasons: tuple[str, ...] = ()
    hint: str | None = None
    notes: tuple[str, ...] = ()
    watch: str | None = None
    went_back: bool = False
    refused_before: int = 0
    learnt: Learnt | None = None
    verdict: GateVerdict | None = None
    tried: dict[str, int]
    labels: Readiness
    cost: Cost
    disk: dict[str, int]
    seen: int | None = None

    @property
    def headline(self) -> str:
        """The night in one line."""
        return f"{self._came_to}; the watch {self.watch}" if self.went_back and self.watch else self._came_to

    @property
    def _came_to(self) -> str:
        reason = self.reasons[0] if self.reasons else ""
        match self.kind:
            case Kind.PROMOTED:
                refused = f"; refused {self.refused_before} before it" if self.refused_before else ""
                return f"Got up wiser{_measured(self.verdict)}{refused}; undo: `{UNDO}`"
            case Kind.REFUSED:
                return (
                    f"Stayed as it was{_measured(self.verdict)}; refused {self.candidate or 'the candidate'}: {reason}"
                )
            case Kind.NOTHING:
                return f"Nothing to do: {reason}"
            case Kind.FAILED:
                return f"The night failed: {reason}"


def disk_of(home: Home) -> dict[str, int]:
    """Return the bytes of each part of the home, by its name."""
    parts = {path.name: _bytes_below(path) for path in home.folders[1:]}
    return {"traces.db": home.traces.stat().st_size if home.traces.exists() else 0, **parts}


def _bytes_below(folder: os.PathLike[str]) -> int:
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                # Another process may take its temporary files away meanwhile.
                continue
    return found


def _measured(verdict: GateVerdict | None) -> str:
    if verdict is None or verdict.current_rate is None or verdict.candidate_rate is None:
        return ""
    before, after = _whole(verdict.current_rate), _whole(verdict.candidate_rate)
    return f": {before} → {after} % on {verdict.tasks} unseen tasks"


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"


def counted(counts: Mapping[str, int]) -> str:
    """Return counts as words: `12 success, 3 failure`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
