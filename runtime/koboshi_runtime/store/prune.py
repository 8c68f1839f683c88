"""Take content out of the trace store, so that no byte of it stays in the file.

Deleting a row leaves its bytes in free pages, in the log, and its words in the full-text indexes. So what is taken out
here is followed by a rebuild: indexes are merged, the file is written anew from what is left, and the log is emptied.
That reads and writes the whole file, under the write lock, and needs as much free disk as the file has.

Not covered: what the disk itself keeps of overwritten blocks, and copies that were made of the file before.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from .codecs import Column
from .errors import StoreError, translated
from .lock import write_lock
from .writer import connect_for_writing

_INDEXES = ("runs_fts", "steps_fts", "tool_calls_fts")
_LOG_TRIES = 50
"""Times 0.1 s to wait for readers that still look at the old log."""

_ORPHANS = "DELETE FROM segments WHERE segment_id NOT IN (SELECT segment_id FROM step_segments)"


def delete_runs(path: Path, run_ids: Sequence[str], forgotten: Sequence[Column]) -> None:
    """Delete runs and all that belongs to them; `forgotten` are the columns of their rows in `forgotten` after the id.

    All go or none. The split of a prompt stays, by hash alone. Raises StoreError.
    """
    with _changing(path) as db:
        for run_id in run_ids:
            _delete_run(db, run_id, forgotten)
    rebuild(path)


def _delete_run(db: sqlite3.Connection, run_id: str, forgotten: Sequence[Column]) -> None:
    prompt_hash = db.execute("SELECT prompt_hash FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    db.execute(_ORPHANS)
    db.execute("DELETE FROM offers WHERE offer_hash NOT IN (SELECT offer_hash FROM runs)")
    if prompt_hash is not None:
        db.execute(
            "UPDATE tasks SET prompt = '' WHERE prompt_hash = ? "
            "AND NOT EXISTS (SELECT 1 FROM runs WHERE prompt_hash = tasks.prompt_hash)",
            prompt_hash,
        )
    marks = ", ".join("?" * len(forgotten))
    db.execute(f"INSERT OR REPLACE INTO forgotten VALUES (?, {marks})", (run_id, *forgotten))


def delete_texts(path: Path, run_ids: Sequence[str]) -> None:
    """Delete the steps and calls of runs; prompts, answers and outcomes stay. Raises StoreError."""
    with _changing(path) as db:
        for run_id in run_ids:
            db.execute("DELETE FROM tool_calls WHERE run_id = ?", (run_id,))
            db.execute("DELETE FROM steps WHERE run_id = ?", (run_id,))
        db.execute(_ORPHANS)


def delete_thread_state(path: Path, run_ids: Sequence[str]) -> None:
    """Delete where runs would go on: they cannot be taken up again. Raises StoreError."""
    with _changing(path) as db:
        db.executemany("DELETE FROM thread_state WHERE run_id = ?", [(run_id,) for run_id in run_ids])


def rebuild(path: Path) -> None:
    """Write the file anew from what is in it, and empty its log. Raises StoreError, also if the log stays in use."""
    with translated(path), write_lock(path), closing(connect_for_writing(path)) as db:
        for index in _INDEXES:
            db.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")
        db.execute("VACUUM")
        for _ in range(_LOG_TRIES):
            if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                return
            time.sleep(0.1)
    raise StoreError(
        f"The log of {path} is in use by a reader, and still holds what was deleted.",
        hint="End the other koboshi processes, then run `koboshi gc`.",
    )


@contextmanager
def _changing(path: Path) -> Iterator[sqlite3.Connection]:
    with translated(path), write_lock(path), closing(connect_for_writing(path)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
