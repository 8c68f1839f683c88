"""The store's errors: every `sqlite3` error leaves the store as a `StoreError` that says what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from koboshi_tools import KoboshiError

_HINTS = {
    sqlite3.SQLITE_FULL: "Free some disk space; every step that was acknowledged is kept.",
    sqlite3.SQLITE_IOERR: "Look at the disk's health and free space; every step that was acknowledged is kept.",
    sqlite3.SQLITE_CORRUPT: "Restore a backup, or move the file away to start an empty one.",
    sqlite3.SQLITE_NOTADB: "The file is no SQLite database: move it away, or choose another home.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for you.",
    sqlite3.SQLITE_CANTOPEN: "Check that the home exists and that you may read and write it.",
    sqlite3.SQLITE_BUSY: "Another program holds the database: close it and try again.",
    sqlite3.SQLITE_LOCKED: "Another program holds the database: close it and try again.",
}


class StoreError(KoboshiError):
    """The trace store could not do what was asked; nothing that it acknowledged is lost."""


class StoreRuleError(StoreError):
    """What was asked breaks a rule of the store: a status that may not follow, a second result, an unknown run."""


class SchemaTooNewError(StoreError):
    """The file was written by a newer koboshi, and is left untouched."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise StoreError for a `sqlite3.Error` or an `OSError` inside the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    except OSError as error:
        raise StoreError(
            f"Cannot use the trace store {path}: {error}.", hint=_HINTS[sqlite3.SQLITE_CANTOPEN]
        ) from error


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error that the operator reads for `error`."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return StoreError(f"The trace store {path} failed: {error}.", hint=_HINTS.get(primary))
