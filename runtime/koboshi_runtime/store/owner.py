"""Which process holds a run, and whether it still lives.

A process is named by boot, pid and start time, so that a pid that was given away again is not taken for the one that
died. Within a process a run is carried by one runner at a time: `hold` says so.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_START_TIME_FIELD = 19
"""Place of `starttime` among the fields of /proc/PID/stat that follow the command name (proc(5): field 22)."""

_ENDED = ("Z", "X")
"""States of a process that runs no more (proc(5): field 3)."""

_NAME = re.compile(r"(?P<boot>[^:]+):(?P<pid>[0-9]+):(?P<started>[0-9]*)")

_held: set[str] = set()
_changing = threading.Lock()


@contextmanager
def hold(run_id: str) -> Iterator[bool]:
    """Hold a run for as long as the context lasts; False if something else in this process holds it already."""
    with _changing:
        ours = run_id not in _held
        _held.add(run_id)
    try:
        yield ours
    finally:
        if ours:
            _held.discard(run_id)


def this_process() -> str:
    """Return the name of the running process."""
    return f"{_boot_id()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Say whether the process that `this_process` named still runs; what is no such name is no process."""
    named = _NAME.fullmatch(owner)
    return named is not None and named["boot"] == _boot_id() and _start_time(int(named["pid"])) == named["started"]


@cache
def _boot_id() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text(encoding="ascii").strip()[:8] if file.exists() else "boot"


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    # One that ended and was not waited for has nothing any more but its entry.
    return "" if fields[0] in _ENDED else fields[_START_TIME_FIELD]
