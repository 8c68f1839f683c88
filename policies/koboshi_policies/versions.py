"""Which version of a tool a run is given, and how a new version moves: shadow, canary, active, retired.

In shadow the new version is called beside the old one on the same arguments, and nobody sees what it says. As a canary
it carries a share of the runs, chosen by a stable hash of the run's id, so that a run has one version from its first
step to its last. Active it carries all of them, and is still watched. It moves on by measured success alone: forward
when enough was compared or it is better, back as soon as it is worse. One that is no different stays a canary until a
person decides. Only real work is measured, and only real work ever meets a version that is not active.

Not covered: that the model or the tasks change while two versions are compared; both versions meet the change, but a
version that became active is held against what the old one did before.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from koboshi_tools import Frozen, KoboshiError

from .sequential import Tally, Word, compare

SHADOW_CALLS = 20
"""Calls that are compared before a version carries runs: it breaks at once, or it does not break at once."""

SHARE = 0.2
"""The share of runs that a canary carries: the old version's runs are then the better known rate of the two."""

_HASH_DIGITS = 8


class Stage(StrEnum):
    """Where the new version of a tool stands."""

    SHADOW = "shadow"
    CANARY = "canary"
    ACTIVE = "active"
    RETIRED = "retired"


TRANSITIONS: Mapping[Stage, frozenset[Stage]] = {
    Stage.SHADOW: frozenset({Stage.CANARY, Stage.ACTIVE, Stage.RETIRED}),
    Stage.CANARY: frozenset({Stage.ACTIVE, Stage.RETIRED}),
    Stage.ACTIVE: frozenset({Stage.RETIRED}),
    Stage.RETIRED: frozenset(),
}
"""Which stage may follow which; a retired version that is tried again is a new swap."""


class SwapError(KoboshiError):
    """A version of a tool cannot move to where it is wanted."""


class ToolVersion(Frozen):
    """A version of a tool: the author's name for it, and the digest of its code."""

    version: str
    digest: str


class Swap(Frozen):
    """A new version of a tool beside the old one; `base` is the digest of the file that the swap was begun with."""

    tool: str
    base: str
    old: ToolVersion
    new: ToolVersion
    stage: Stage
    share: float = Field(default=SHARE, gt=0, le=0.5)


class SwapWish(Frozen):
    """A version that a policy file swaps in, for as long as the file says so or until it is active."""

    tool: str = Field(min_length=1)
    version: str = Field(min_length=1)
    share: float = Field(default=SHARE, gt=0, le=0.5)


class Measured(Frozen):
    """What both versions did since the swap began: judged runs that called them, and calls that were clean.

    A call is clean if it was carried out and the tool itself did not say that it failed.
    """

    old_runs: Tally = Tally()
    new_runs: Tally = Tally()
    old_calls: Tally = Tally()
    new_calls: Tally = Tally()


class Move(Frozen):
    """The stage that a version moves to, and why."""

    stage: Stage
    reason: str


def serving(swap: Swap, run_id: str, *, work: bool) -> ToolVersion:
    """Return the version that a run is given; `work` says whether it is real work."""
    if swap.stage is Stage.ACTIVE or (swap.stage is Stage.CANARY and work and _share(swap, run_id) < swap.share):
        return swap.new
    return swap.old


def next_move(swap: Swap, measured: Measured) -> Move | None:
    """Return where measured success moves the new version, or None while it stays."""
    if swap.stage is Stage.RETIRED:
        return None
    for kind, old, new in (
        ("runs", measured.old_runs, measured.new_runs),
        ("calls", measured.old_calls, measured.new_calls),
    ):
        if compare(old, new) == "worse":
            return Move(stage=Stage.RETIRED, reason=f"worse: {_rates(kind, old, new)}")
    if swap.stage is Stage.SHADOW and measured.new_calls.total >= SHADOW_CALLS:
        said = _rates("calls", measured.old_calls, measured.new_calls)
        return Move(stage=Stage.CANARY, reason=f"compared enough: {said}")
    if swap.stage is Stage.CANARY and runs_word(measured) == "better":
        said = _rates("runs", measured.old_runs, measured.new_runs)
        return Move(stage=Stage.ACTIVE, reason=f"better: {said}")
    return None


def runs_word(measured: Measured) -> Word:
    """Return what the judged runs say of the new version."""
    return compare(measured.old_runs, measured.new_runs)


def moved(swap: Swap, stage: Stage) -> Swap:
    """Return the swap at another stage. Raises SwapError if that stage cannot follow."""
    if stage not in TRANSITIONS[swap.stage]:
        raise SwapError(
            f"version {swap.new.version} of {swap.tool} is {swap.stage} and cannot become {stage}",
            hint="`koboshi tools swap` shows where each version stands.",
        )
    return swap.model_copy(update={"stage": stage})


def _share(swap: Swap, run_id: str) -> float:
    digest = hashlib.sha256(f"{swap.tool}:{swap.new.digest}:{run_id}".encode()).hexdigest()
    return int(digest[:_HASH_DIGITS], 16) / int(16**_HASH_DIGITS)


def _rates(kind: str, old: Tally, new: Tally) -> str:
    return (
        f"{new.successes} of {new.total} {kind} with the new version succeeded, {old.successes} of {old.total} before"
    )
