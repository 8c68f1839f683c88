"""What the person sees while the demo works: the stage, how far it is, and the time left.

A bar on a terminal; plain lines, one at each stage and one every quarter of a minute, in a pipe. Everything goes to
stderr. Time left is what the plan expects of the stages to come, scaled by how fast the finished ones were.
"""

import time
from collections.abc import Mapping

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from koboshi_runtime.text import plain

from .plan import TITLES, StageName

_BETWEEN_LINES_S = 15.0
# Below this share of a stage its own speed says nothing yet.
_TELLING_SHARE = 0.1
# Stages expected to be shorter than this say nothing of the machine: they are mostly start-up.
_TELLING_S = 20.0


class Screen:
    """Shows the stages; `begin`, `advance` and `end` are called in the order of the work."""

    def __init__(self, expected_s: Mapping[StageName, float]) -> None:
        self._expected_s = dict(expected_s)
        self._to_come = dict(expected_s)
        self._spent_s = self._planned_s = 0.0
        self._stage: StageName | None = None
        self._part = ""
        self._began = self._part_began = self._shown = 0.0
        self._bar = _Bar() if Console(stderr=True).is_terminal else None

    def begin(self, stage: StageName) -> None:
        """Say that a stage begins."""
        self._stage, self._part = stage, ""
        self._began = self._part_began = time.monotonic()
        self._to_come.pop(stage, None)
        self._show(0.0, force=True)

    def part(self, name: str) -> None:
        """Say that a named part of the stage begins; `advance` counts within it."""
        self._part, self._part_began = f" ({name})", time.monotonic()
        self._show(0.0, force=True)

    def advance(self, done: float, wanted: float) -> None:
        """Say how much of the stage is done, of how much."""
        self._show(min(1.0, done / wanted) if wanted else 1.0, force=False)

    def end(self, seconds: float) -> None:
        """Close the stage."""
        if self._stage is not None and (expected := self._expected_s.get(self._stage, 0.0)) >= _TELLING_S:
            self._spent_s += seconds
            self._planned_s += expected
        self._stage = None

    def skip(self, stage: StageName) -> None:
        """Take out of the time left a stage that an earlier call finished."""
        self._to_come.pop(stage, None)

    def line(self, text: str) -> None:
        """Print one line, made safe."""
        if self._bar is not None:
            self._bar.pause()
        click.echo(plain(text), err=True)

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.pause()

    def seconds_left(self, share: float) -> float:
        """Return the expected seconds to the end, with `share` of the present part of the stage done."""
        scale = self._spent_s / self._planned_s if self._planned_s else 1.0
        left = scale * sum(self._to_come.values())
        if self._stage is None:
            return left
        now = time.monotonic()
        expected = scale * self._expected_s.get(self._stage, 0.0) - (now - self._began)
        seen = (now - self._part_began) * (1 - share) / share if share >= _TELLING_SHARE else 0.0
        return left + max(expected, seen, 0.0)

    def _show(self, share: float, *, force: bool) -> None:
        if self._stage is None:
            return
        done = len(self._expected_s) - len(self._to_come)
        title = f"{done}/{len(self._expected_s)} {TITLES[self._stage]}{self._part}"
        left = f"{_duration(self.seconds_left(share))} left"
        if self._bar is not None:
            self._bar.show(title, share, left)
        elif force or time.monotonic() - self._shown >= _BETWEEN_LINES_S:
            self._shown = time.monotonic()
            click.echo(f"{title}: {share:.0%}, {left}", err=True)


class _Bar:
    """One bar on the terminal."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.percentage:.0f} % {task.fields[left]}"),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=1.0, left="")

    def show(self, title: str, share: float, left: str) -> None:
        self._progress.start()
        self._progress.update(self._task, description=title, completed=share, left=left)

    def pause(self) -> None:
        self._progress.stop()


def _duration(seconds: float) -> str:
    return f"about {round(seconds / 60)} min" if seconds >= 90 else f"about {max(1, round(seconds))} s"
