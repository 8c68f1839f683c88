"""Scratch copies of a workspace, for runs that must not touch the live one.

A copy goes with its run. One whose process was killed is removed by the next process that makes a copy: each holds a
lock on a file beside its copy for as long as it lives, so a copy whose lock is free belongs to nobody.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "koboshi-scratch-"
_LOCK = "lock"


@contextmanager
def scratch_copy(source: Path) -> Iterator[Path]:
    """Copy `source`, symbolic links as they are, and remove the copy at the end of the block."""
    _remove_stale()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
        scratch = Path(folder) / "workspace"
        shutil.copytree(source, scratch, symlinks=True)
        yield scratch


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    unnamed = folder / "lock.new"
    with unnamed.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Named when it is held: nobody finds the lock of a living process free.
        unnamed.rename(folder / _LOCK)
        yield


def stale_copies() -> Iterator[Path]:
    """Yield the folders of copies of ours whose process was killed; anyone may remove them."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        # Another process may be removing the same folder, and a folder of another user is not ours to remove.
        with suppress(OSError):
            if lock.parent.lstat().st_uid == os.geteuid() and _is_free(lock):
                yield lock.parent


def _remove_stale() -> None:
    for folder in stale_copies():
        shutil.rmtree(folder, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
