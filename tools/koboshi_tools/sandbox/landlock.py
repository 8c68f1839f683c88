"""Landlock: which files this process and all that it starts may reach. Nothing takes it back.

What is not named is denied. Covered from version 3 of the kernel's interface on: opening, listing, making, removing,
renaming, truncating and running; TCP from version 4, signals and abstract sockets to processes outside from version 6.

Not covered by Landlock, so `seccomp.py` denies it: changing the mode, owner, times or attributes of a file that can be
named, connecting to a socket that has a name, watching a folder. Not covered at all: that a file exists, and its size.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .syscalls import numbers, syscall

# Version 3 brought truncation; before it a file that is only readable could be emptied.
NEEDED_ABI = 3
SCOPE_ABI = 6

_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_TRUNCATE = 1 << 14
# All rights up to truncation; REFER, the right to link and rename between folders, is bit 13.
_ALL_ABI_3 = (1 << 15) - 1
_IOCTL_DEV, _IOCTL_DEV_ABI = 1 << 15, 5
_NET_TCP, _NET_ABI = 0b11, 4
_SCOPES = 0b11

_READ = _READ_FILE | _READ_DIR
_DEVICES = _MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK
_WRITE = _ALL_ABI_3 & ~_DEVICES & ~_EXECUTE
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached: read, run and change each imply nothing about the others."""

    readable: tuple[Path, ...] = ()
    runnable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_abi() -> int:
    """Return the version of Landlock that the kernel offers, 0 for none."""
    if "landlock_create_ruleset" not in numbers():
        return 0
    try:
        return syscall("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint(_CREATE_VERSION))
    except OSError:
        return 0


def restrict(reach: Reach, abi: int) -> None:
    """Confine this process to `reach`. It must already be unable to gain privileges. Raises OSError.

    A path that does not exist is left out: it cannot be reached either.
    """
    rules = _Ruleset(
        fs=_ALL_ABI_3 | (_IOCTL_DEV if abi >= _IOCTL_DEV_ABI else 0),
        net=_NET_TCP if abi >= _NET_ABI else 0,
        scoped=_SCOPES if abi >= SCOPE_ABI else 0,
    )
    # An older kernel knows a shorter structure, and refuses a longer one only if the rest is not zero.
    descriptor = syscall(
        "landlock_create_ruleset", ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), ctypes.c_uint(0)
    )
    try:
        _allow(descriptor, reach.readable, _READ)
        _allow(descriptor, reach.runnable, _EXECUTE | _READ)
        _allow(descriptor, reach.writable, _READ | _WRITE)
        syscall("landlock_restrict_self", ctypes.c_int(descriptor), ctypes.c_uint(0))
    finally:
        os.close(descriptor)


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
            rule = _PathBeneath(allowed=rights if is_folder else rights & _FILE_RIGHTS, parent_fd=opened)
            syscall(
                "landlock_add_rule",
                ctypes.c_int(ruleset),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint(0),
            )
        finally:
            os.close(opened)
