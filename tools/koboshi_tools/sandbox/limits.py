"""What bounds a sandboxed process before it runs anything of a tool: session, limits, capabilities.

Limits bound one process each: address space, processor seconds, file size, open files. That all of a call's processes
together stay within its number and memory is watched by `keeper.py`.
"""

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

from .profile import SandboxProfile
from .syscalls import prctl, syscall

_NO_NEW_PRIVILEGES, _DROP_BOUNDING, _DUMPABLE, _DIE_WITH_PARENT, _AMBIENT, _ADOPT = 38, 24, 4, 1, 47, 36
_AMBIENT_CLEAR_ALL = 4
_CAPABILITIES_VERSION_3 = 0x20080522
_MB = 1 << 20


def limit(profile: SandboxProfile, *, tasks_before: int) -> None:
    """Set the limits of a profile. `tasks_before` is how many tasks there were that the same limit may count."""
    _set(resource.RLIMIT_AS, profile.memory_mb * _MB)
    _set(resource.RLIMIT_CPU, profile.cpu_s)
    _set(resource.RLIMIT_FSIZE, profile.file_mb * _MB)
    _set(resource.RLIMIT_NOFILE, profile.open_files)
    _set(resource.RLIMIT_NPROC, tasks_before + profile.processes)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_MEMLOCK, 0)
    with suppress(OSError):
        # If memory runs short, the kernel ends a tool before anything else; it is no loss where that cannot be said.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def drop_privileges() -> None:
    """Give up every capability for good; a program that is started cannot gain any. Raises OSError."""
    prctl(_NO_NEW_PRIVILEGES, 1)
    with suppress(OSError):
        prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
    for capability in range(64):
        try:
            prctl(_DROP_BOUNDING, capability)
        except OSError:
            # Beyond the last capability, or there is nothing to drop and no right to drop it.
            break
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    syscall("capset", ctypes.byref(header), ctypes.byref(nothing))


def hide_memory() -> None:
    """Keep this process's memory from others of the same user."""
    prctl(_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of every process further down that loses its own."""
    prctl(_ADOPT, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process with its parent, also if that is gone already."""
    prctl(_DIE_WITH_PARENT, 9)
    if os.getppid() != parent:
        os._exit(1)


def _set(which: int, wanted: int) -> None:
    hard = resource.getrlimit(which)[1]
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (bound, bound))
