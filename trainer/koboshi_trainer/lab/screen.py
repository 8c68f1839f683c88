"""What a person sees while an experiment runs: the step, how far it is, and the time left, as lines on stderr.

Time left is what the steps to come are expected to take, scaled by how the finished ones compared with what was
expected of them; a step's own speed counts as soon as a tenth of it is done.
"""

import time
from collections.abc import Mapping

from koboshi_runtime.cli.context import progress

_BETWEEN_LINES_S = 15.0
_TELLING_SHARE = 0.1
# Steps expected to be shorter than this are mostly start-up, and say nothing of the machine; nor do those that were
# there already.
_TELLING_S = 10.0
_AT_ONCE_S = 1.0


class LabScreen:
    """Counts steps; `begin`, `advance` and `end` are called in the order of the work."""

    def __init__(self, expected_s: Mapping[str, float]) -> None:
        self._to_come = dict(expected_s)
        self._steps = len(expected_s)
        self._title = ""
        self._expected = self._began = self._told = 0.0
        self._spent_s = self._planned_s = 0.0

    def begin(self, title: str) -> None:
        """Say that a step begins; its title is that under which its time was expected."""
        self._title, self._expected = title, self._to_come.pop(title)
        self._began = time.monotonic()
        self._say(0.0)

    def advance(self, share: float) -> None:
        """Say which share of the step is done."""
        if time.monotonic() - self._told >= _BETWEEN_LINES_S:
            self._say(share)

    def end(self) -> float:
        """Close the step and return its seconds."""
        seconds = time.monotonic() - self._began
        if self._expected >= _TELLING_S and seconds >= _AT_ONCE_S:
            self._spent_s += seconds
            self._planned_s += self._expected
        return seconds

    def seconds_left(self, share: float) -> float:
        """Return the seconds that are left with `share` of the present step done."""
        scale = self._spent_s / self._planned_s if self._planned_s else 1.0
        spent = time.monotonic() - self._began
        own = spent * (1 - share) / share if share >= _TELLING_SHARE else max(0.0, scale * self._expected - spent)
        return own + scale * sum(self._to_come.values())

    def _say(self, share: float) -> None:
        self._told = time.monotonic()
        number = self._steps - len(self._to_come)
        progress(f"{number}/{self._steps} {self._title}: {share:.0%}, {duration(self.seconds_left(share))} left")


def duration(seconds: float) -> str:
    """Return a stretch of time as people say it."""
    if seconds >= 5400:
        return f"about {seconds / 3600:.1f} h"
    return f"about {round(seconds / 60)} min" if seconds >= 90 else f"about {max(1, round(seconds))} s"
