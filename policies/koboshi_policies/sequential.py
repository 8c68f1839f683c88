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

# A model that lost some ten points is worth going back from.
_DROP_MIXTURE = 0.10

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
    difference, variance = _moved(old, new)
    if _log_ratio(difference, variance, _MIXTURE) < -math.log(ALPHA):
        return "open"
    return "better" if difference > 0 else "worse"


def drop_evidence(old: Tally, new: Tally) -> float:
    """Return how many times likelier a drop makes these outcomes than none does: the one-sided form of the test.

    Drops are drawn from half a normal distribution. Under equal rates it ever exceeds x with a chance of at most 1 / x,
    and so does any average of several whose weights were fixed before. It is 1 before each side has `LEAST`.
    """
    if min(old.total, new.total) < LEAST:
        return 1.0
    difference, variance = _moved(old, new)
    mixed = variance + _DROP_MIXTURE**2
    # Where a difference lies after these outcomes, had it been normal before them: mean over standard deviation.
    place = difference * _DROP_MIXTURE / math.sqrt(variance * mixed)
    return math.exp(_log_ratio(difference, variance, _DROP_MIXTURE)) * math.erfc(place / math.sqrt(2))


def _moved(old: Tally, new: Tally) -> tuple[float, float]:
    return _drawn(new) - _drawn(old), _variance(old) + _variance(new)


def _log_ratio(difference: float, variance: float, mixture: float) -> float:
    mixed = variance + mixture**2
    return 0.5 * math.log(variance / mixed) + (mixture * difference) ** 2 / (2 * variance * mixed)


def _drawn(tally: Tally) -> float:
    return (tally.successes + 1) / (tally.total + 2)


def _variance(tally: Tally) -> float:
    rate = _drawn(tally)
    return rate * (1 - rate) / tally.total
