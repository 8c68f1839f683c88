"""The one lock under which any process writes to the trace store.

SQLite 3.7.0 to 3.51.2 can corrupt a database in WAL mode when two connections write or checkpoint at once. So every
write transaction, every checkpoint and the closing of a writing connection (which checkpoints) happen while an
exclusive `flock` on the file beside the database is held. The kernel gives the lock back when its holder dies.

Covered: any number of koboshi processes and threads. Not covered: other programs that write to the file; network file
systems without `flock`; a process that is stopped, not killed, in the few milliseconds of a commit keeps the others
waiting.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock_path(database: Path) -> Path:
    """Return the path of the lock file of `database`."""
    return database.with_name(database.name + ".lock")


@contextmanager
def write_lock(database: Path) -> Iterator[None]:
    """Hold the exclusive lock of `database` inside the block, waiting for it as long as it takes."""
    descriptor = os.open(lock_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
