"""Which kind of sandbox this machine has, and why not the others.

The first that works is taken: bwrap, else Landlock with seccomp. Where neither can be had there is none, and a tool
that needs one is refused by name; nothing is ever run with less than it asks for.
"""

import os
import platform
import subprocess
import sys
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .bubblewrap import bwrap, wrapped
from .landlock import NEEDED_ABI, landlock_abi
from .syscalls import numbers

_PROBE_S = 10.0
_SECCOMP_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")


class Mode(StrEnum):
    """The kinds of sandbox, the stronger first."""

    BWRAP = "bwrap"
    LANDLOCK = "landlock"


class Probe(NamedTuple):
    """What was found: `mode` is what is used, `missing` says of every other why it cannot be had."""

    mode: Mode | None
    missing: dict[Mode, str]

    @property
    def available(self) -> tuple[Mode, ...]:
        """Every kind that this machine has."""
        return tuple(mode for mode in Mode if mode not in self.missing)

    def __str__(self) -> str:
        """Say what is used, and why nothing else is."""
        why = "; ".join(f"no {mode.value}: {reason}" for mode, reason in self.missing.items())
        return f"{self.mode.value if self.mode else 'none'}{f' ({why})' if why else ''}"


@cache
def probe() -> Probe:
    """Look, once for the process, by starting each kind."""
    missing = {
        mode: reason
        for mode, reason in ((Mode.BWRAP, _without_bwrap()), (Mode.LANDLOCK, _without_landlock()))
        if reason
    }
    return Probe(next((mode for mode in Mode if mode not in missing), None), missing)


def _without_bwrap() -> str | None:
    if reason := _without_filter():
        return reason
    program = bwrap()
    if program is None:
        return "bwrap is not installed (package bubblewrap)"
    command = wrapped(program, [os.path.realpath(sys.executable), "-I", "-S", "-c", ""], workspace=None, access="none")
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, env={}, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} does not start: {error}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"{program} fails: {said[-1] if said else f'exit code {done.returncode}'}" if done.returncode else None


def _without_landlock() -> str | None:
    if reason := _without_filter():
        return reason
    abi = landlock_abi()
    if abi == 0:
        return "this kernel has no Landlock, or it is switched off"
    return f"Landlock of this kernel has version {abi}, and {NEEDED_ABI} is needed" if abi < NEEDED_ABI else None


def _without_filter() -> str | None:
    """Say why system calls cannot be filtered; every kind of sandbox filters them."""
    if sys.platform != "linux":
        return f"{sys.platform} is not Linux"
    if not numbers():
        return f"the system calls of this processor ({platform.machine()}) are not known"
    try:
        return None if "errno" in _SECCOMP_ACTIONS.read_text(encoding="ascii").split() else "seccomp cannot deny calls"
    except OSError:
        return "this kernel has no seccomp filters"
