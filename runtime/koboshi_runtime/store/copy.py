"""One snapshot of a trace store as a file of its own, made while others write to the store.

SQLite's online backup copies all pages in one read transaction: writers go on, and what they commit meanwhile is not
in the copy. The copy is one file without a log, so that equal stores have equal bytes.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from .errors import translated


def copy_database(source: Path, target: Path) -> None:
    """Copy the store `source` to `target`, which must not exist, durably. Raises StoreError."""
    with translated(source):
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(target, isolation_level=None)) as writing,
        ):
            reading.execute("PRAGMA busy_timeout = 30000")
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
