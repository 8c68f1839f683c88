"""Whether somebody uses this machine, so that a night can wait for them to go and step back when they come.

In use means one of three: a terminal was typed into within `[nightly] idle_minutes`; processes that did not step back
(a nice value above 0 does not count, and a night has one) take more than `busy_share` of all processors; or a work run
of this home is alive. Covered: terminals, SSH, whatever computes, koboshi itself. Not covered: somebody who reads or
types in a graphical session that hardly computes, because no file tells that without its desktop's help.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.store import Store
from koboshi_runtime.store.owner import is_alive
from koboshi_tools import KoboshiError

_TERMINALS = ("/dev/pts/[0-9]*", "/dev/tty[0-9]*")
_LOOK_EVERY_S = 15.0
# A share over a shorter time says more of one keystroke's work than of the machine.
_SHORTEST_S = 5.0

_WORK_OWNERS = "SELECT DISTINCT owner FROM runs WHERE status = 'running' AND purpose = 'work' AND owner NOT NULL"


class PutOffError(KoboshiError):
    """The machine was in use for longer than a night may wait."""


@dataclass(slots=True)
class IdleRule:
    """Knows whether the machine is in use; `pause` waits until it is not, in all at most `[nightly] wait_h` hours.

    `tell` is told when a pause begins and ends. Clock, wait, and where to look are for tests.
    """

    settings: NightlySettings
    store: Store
    tell: Callable[[str], None] = lambda text: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    proc: Path = Path("/proc")
    terminals: tuple[str, ...] = _TERMINALS
    _waited_s: float = 0.0
    _looked: float = field(default=-_LOOK_EVERY_S, init=False)
    _last: "_Processors | None" = field(default=None, init=False)

    def pause(self, stage: str = "the beginning") -> None:
        """Wait while the machine is in use. Raises PutOffError once all pauses together are longer than allowed."""
        if self.clock() - self._looked < _LOOK_EVERY_S:
            return
        reason = self.in_use()
        if reason is None:
            return
        self.tell(f"pausing at {stage}: {reason}")
        while reason is not None:
            if self._waited_s >= self.settings.wait_h * 3600:
                raise PutOffError(
                    f"the night was put off at {stage}: {reason}, and it waited {self.settings.wait_h:g} h",
                    hint="The same command goes on where it stands; [nightly] wait_h bounds the waiting.",
                )
            self.sleep(_LOOK_EVERY_S)
            self._waited_s += _LOOK_EVERY_S
            reason = self.in_use()
        self.tell("nobody uses the machine: going on")

    def in_use(self) -> str | None:
        """Return by what the machine is in use, or None."""
        self._looked = self.clock()
        return self._terminal() or self._processors() or self._work()

    def _terminal(self) -> str | None:
        typed = [path.stat().st_atime for pattern in self.terminals for path in _glob(pattern)]
        minutes = (time.time() - max(typed)) / 60 if typed else self.settings.idle_minutes
        return None if minutes >= self.settings.idle_minutes else f"a terminal was typed into {minutes:.0f} min ago"

    def _processors(self) -> str | None:
        if self._last is None:
            self._last = _read_processors(self.proc)
            self.sleep(_SHORTEST_S)
        now, before = _read_processors(self.proc), self._last
        self._last = now
        total = now.total - before.total
        share = (now.others - before.others) / total if total > 0 else 0.0
        return f"others use {share:.0%} of the processors" if share > self.settings.busy_share else None

    def _work(self) -> str | None:
        with self.store.reading() as db:
            owners = [str(row["owner"]) for row in db.execute(_WORK_OWNERS)]
        return "koboshi is at work" if any(is_alive(owner) for owner in owners) else None


@dataclass(frozen=True, slots=True)
class _Processors:
    """Ticks since boot: of all kinds together, and those of processes that did not step back."""

    total: int
    others: int


def _read_processors(proc: Path) -> _Processors:
    """Read the first line of /proc/stat (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal."""
    line = (proc / "stat").read_text(encoding="ascii").partition("\n")[0]
    ticks = [int(field) for field in line.split()[1:9]]
    return _Processors(total=sum(ticks), others=ticks[0])


def _glob(pattern: str) -> list[Path]:
    return list(Path("/").glob(pattern.removeprefix("/")))
