"""From the results of all sides to the figures of the table: medians over pairs, each beside its rival and target."""

from collections.abc import Sequence
from statistics import median

from koboshi_tools import Frozen

from ..machine import Machine
from .plan import SideResult


class Figure(Frozen):
    """One line of the table; `ratio` is ours over the rival's, the median over pairs, and `target` its least value."""

    name: str
    unit: str
    ours: float
    rival: str
    theirs: float
    ratio: float
    target: float | None

    @property
    def met(self) -> bool | None:
        """Whether the ratio reaches the target, None without one."""
        return None if self.target is None else self.ratio >= self.target


class BenchReport(Frozen):
    """A whole measurement."""

    machine: Machine
    model: str
    pack: str
    tasks: int
    jobs: int
    pairs: int
    figures: tuple[Figure, ...]
    success_rates: dict[str, float]
    missing: dict[str, str]


# What is asked of each ratio: a rival in the same run, and how many times its speed is enough.
_TARGETS = {"raw": 0.85, "server": 2.0, "plain": 3.0}


def figures_of(pairs: Sequence[dict[str, SideResult]]) -> tuple[Figure, ...]:
    """Return the figures of `pairs`, each a result for every side of one round; `koboshi` is in all of them."""
    sides = [side for side in ("raw", "server", "plain") if all(side in pair for pair in pairs)]
    return tuple(_figure(side, pairs) for side in sides)


def _figure(side: str, pairs: Sequence[dict[str, SideResult]]) -> Figure:
    # The raw loop finishes no task: it is compared by tokens, rivals that write something else by tasks.
    unit = "sampled tokens/s" if side == "raw" else "tasks/s"
    ours = [_speed(pair["koboshi"], unit) for pair in pairs]
    theirs = [_speed(pair[side], unit) for pair in pairs]
    return Figure(
        name=_NAMES[side],
        unit=unit,
        ours=round(median(ours), 3),
        rival=side,
        theirs=round(median(theirs), 3),
        ratio=round(median(one / other for one, other in zip(ours, theirs, strict=True)), 3),
        target=_TARGETS[side],
    )


_NAMES = {
    "raw": "over llama_decode on the same tokens",
    "server": "over llama.cpp's server, as many slots, grammar",
    "plain": "over a loop on llama_cpp.Llama, grammar",
}


def _speed(result: SideResult, unit: str) -> float:
    return result.tokens_per_s if unit == "sampled tokens/s" else result.runs_per_s


def success_rates(pairs: Sequence[dict[str, SideResult]]) -> dict[str, float]:
    """Return each side's share of successes over all rounds; the raw loop judges nothing and has none."""
    found = {}
    for side in pairs[0]:
        if side != "raw":
            runs = sum(pair[side].runs for pair in pairs)
            found[side] = round(sum(pair[side].successes for pair in pairs) / max(1, runs), 3)
    return found
