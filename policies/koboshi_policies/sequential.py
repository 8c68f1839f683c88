"""Tell whether one of two success rates is higher, as often as one likes while outcomes come in.

A test that is looked at after every outcome and stops at the first good look finds differences where there are none.
This one may be looked at always: the mixture sequential probability ratio test of Robbins (1970; as used for A/B tests
by Johari et al., 2017) for the difference of two rates, whose chance of ever saying "better" or "worse" of equal rates
is at most `ALPHA`. The normal approximation behind it is poor for a handful of outcomes, so that nothing is said before
each side has `LEAST`, and each rate is drawn towards one half by one success and one failure.
"""

import math
from typing import Literal

from pydantic import Field

from koboshi_tools import Frozen

ALPHA = 0.025
"""The chance of a false word on one comparison; tasks and calls are compared apart, which makes 5 % together."""

LEAST = 20

# The size of differences that the test is best at: a tool that is worth swapping differs by some 20 points.
_MIXTURE = 0.15

Word = Literal["better", "worse", "open"]


class Tally(Frozen):
    """How many outcomes there are, and how many of them are successes."""

    successes: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)

    @property
    def rate(self) -> float | None:
        """The share of successes, None where there is no outcome."""
        return self.successes / self.total if self.total else None


def compare(old: Tally, new: Tally) -> Word:
    """Return whether `new` is better or worse than `old`, or that this is open."""
    if min(old.total, new.total) < LEAST:
        return "open"
    difference = _drawn(new) - _drawn(old)
    variance = _variance(old) + _variance(new)
    mixed = variance + _MIXTURE**2
    log_ratio = 0.5 * math.log(variance / mixed) + (_MIXTURE * difference) ** 2 / (2 * variance * mixed)
    if log_ratio < -math.log(ALPHA):
        return "open"
    return "better" if difference > 0 else "worse"


def _drawn(tally: Tally) -> float:
    return (tally.successes + 1) / (tally.total + 2)


def _variance(tally: Tally) -> float:
    rate = _drawn(tally)
    return rate * (1 - rate) / tally.total
