"""From the results of all sides to the figures of the table: medians over pairs, each beside its rival and target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from koboshi_tools import Frozen

from ..machine import Machine
from .plan import SideResult


class Figure(Frozen):
    """One line of the table; `ratio` is ours over the rival's, the median over pairs.

    `target` is the ratio's least value, or with `at_most` its greatest.
    """

    name: str
    unit: str
    ours: float
    rival: str
    theirs: float
    ratio: float
    target: float | None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the ratio reaches the target, None without one."""
        if self.target is None:
            return None
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


class Cost(Frozen):
    """A figure that has no rival, and what it may be at most; None where nothing is asked."""

    name: str
    value: float
    target: float | None

    @property
    def met(self) -> bool | None:
        """Whether it stays within the target, None without one."""
        return None if self.target is None else self.value <= self.target


class BenchReport(Frozen):
    """A whole measurement."""

    machine: Machine
    model: str
    pack: str
    tasks: int
    jobs: int
    pairs: int
    figures: tuple[Figure, ...]
    costs: tuple[Cost, ...]
    success_rates: dict[str, float]
    missing: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a side is compared. Targets are of one run alone and of many at once; None where nothing is asked.

    What `only_alone` is no figure of many runs at once.
    """

    side: str
    name: str
    unit: str
    value: Callable[[SideResult], float]
    alone: float | None
    many: float | None
    at_most: bool = False
    only_alone: bool = False


# The raw loop finishes no task: it is compared by tokens, rivals that write something else by tasks.
_KINDS = (
    _Kind(
        "raw",
        "replies over llama_decode on the same tokens",
        "sampled tokens/s",
        lambda side: side.tokens_per_reply_s,
        alone=0.95,
        many=None,
        only_alone=True,
    ),
    _Kind(
        "raw",
        "over llama_decode on the same tokens",
        "sampled tokens/s",
        lambda side: side.tokens_per_s,
        alone=None,
        many=0.85,
    ),
    _Kind(
        "server",
        "over llama.cpp's server, as many slots, grammar",
        "tasks/s",
        lambda side: side.runs_per_s,
        alone=None,
        many=2.0,
    ),
    _Kind(
        "plain",
        "over a loop on llama_cpp.Llama, grammar",
        "tasks/s",
        lambda side: side.runs_per_s,
        alone=None,
        many=3.0,
    ),
    _Kind(
        "free",
        "constrained over unconstrained",
        "ms a written token",
        lambda side: side.ms_a_token,
        alone=1.05,
        many=1.05,
        at_most=True,
    ),
    _Kind(
        "no-store",
        "with the store over without",
        "s in all",
        lambda side: side.wall_s,
        alone=None,
        many=1.03,
        at_most=True,
    ),
)


def figures_of(pairs: Sequence[dict[str, SideResult]], jobs: int) -> tuple[Figure, ...]:
    """Return the figures of `pairs`, each a result for every side of one round; `koboshi` is in all of them."""
    kinds = [kind for kind in _KINDS if all(kind.side in pair for pair in pairs)]
    return tuple(_figure(kind, pairs, jobs) for kind in kinds if jobs == 1 or not kind.only_alone)


def _figure(kind: _Kind, pairs: Sequence[dict[str, SideResult]], jobs: int) -> Figure:
    ours = [kind.value(pair["koboshi"]) for pair in pairs]
    theirs = [kind.value(pair[kind.side]) for pair in pairs]
    return Figure(
        name=kind.name,
        unit=kind.unit,
        ours=round(median(ours), 3),
        rival=kind.side,
        theirs=round(median(theirs), 3),
        ratio=round(median(one / other for one, other in zip(ours, theirs, strict=True)), 3),
        target=kind.alone if jobs == 1 else kind.many,
        at_most=kind.at_most,
    )


def costs_of(pairs: Sequence[dict[str, SideResult]], first_token_s: float | None, jobs: int) -> tuple[Cost, ...]:
    """Return what has no rival: the wait for the first token, and the worst round of what koboshi took beside time."""
    # One run's cells are few beside what any worker allocates for a batch: memory is asked of many at once.
    most_memory = 1.15 if jobs > 1 else None
    ours = [pair["koboshi"] for pair in pairs]
    again = [side.again for side in ours if side.again is not None]
    grown = [side.memory_growth for side in ours if side.memory_growth is not None]
    costs = []
    if first_token_s is not None:
        costs.append(Cost(name="s from shell to first token", value=round(first_token_s, 2), target=1.2))
    if again:
        costs.append(Cost(name="tokens decoded again in later turns", value=max(again), target=0))
    if grown:
        costs.append(
            Cost(name="worker memory over empty worker plus KV", value=round(max(grown), 3), target=most_memory)
        )
    return tuple(costs)


def success_rates(pairs: Sequence[dict[str, SideResult]]) -> dict[str, float]:
    """Return each side's share of successes over all rounds; the raw loop judges nothing and has none."""
    found = {}
    for side in pairs[0]:
        if side != "raw":
            runs = sum(pair[side].runs for pair in pairs)
            found[side] = round(sum(pair[side].successes for pair in pairs) / max(1, runs), 3)
    return found
