"""Files that survive power loss: a name holds the old content or the new, never a part of either.

Everything is written under a temporary name in the target's own folder, fsynced, renamed, and the folder fsynced. A
leftover of a killed writer begins with `.tmp-` and may be deleted at any time by whoever holds the folder's lock.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
_PRIVATE_FILE = 0o600
_READ_BYTES = 1 << 20


def temporary_name(path: Path) -> Path:
    """Return an unused name beside `path` for a file or folder that will be renamed to it."""
    return path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")


def sync_folder(path: Path) -> None:
    """Make renames, creations and deletions in the folder `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Give `path` the content `data`, atomically and durably, readable by its owner alone."""
    temporary = temporary_name(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_new(pieces: Iterable[bytes], path: Path) -> str:
    """Write a file that does not exist yet, fsynced and readable by its owner alone, and return its hash."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return f"sha256:{digest.hexdigest()}"


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of an open file, 1 MiB at a time."""
    while piece := file.read(_READ_BYTES):
        yield piece


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the one exclusive lock that the file `path` stands for; the kernel releases it if the holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold the lock of `locked` if nobody else does; says whether it is held, and never waits."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
