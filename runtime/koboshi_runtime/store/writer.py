"""The writer: one thread a process through which everything is written, many units in one durable commit.

A unit is applied whole or not at all, and its future is resolved only after the commit is on disk
(`synchronous=FULL`). Units that wait while a commit is under way share the next one: a commit costs some 8 ms
whatever it holds. A unit that breaks a rule fails alone; a disk that fails, fails every unit of the commit, and each
caller is told.
"""

import sqlite3
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from .errors import StoreError, StoreRuleError, store_error, translated
from .lock import write_lock
from .write import Statement

_CHECKPOINT_BYTES = 16 << 20
"""Size of the write-ahead log at which it is folded into the file; it must stay under 64 MB."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Statements that belong together, and the future of their commit."""

    statements: tuple[Statement, ...]
    done: Future[None] = field(default_factory=Future)


def connect_for_writing(path: Path, *, max_bytes: int | None = None) -> sqlite3.Connection:
    """Return a connection that checkpoints only when told; the caller holds the write lock."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if max_bytes is not None:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max_bytes // page_bytes}")
    return connection


class Writer:
    """Takes units from any thread and commits them in order. The connection is opened by the first unit."""

    def __init__(self, path: Path, *, max_bytes: int | None = None) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._queue: SimpleQueue[Unit | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._closed = False

    def submit(self, statements: tuple[Statement, ...]) -> Future[None]:
        """Queue a unit; the future is resolved when it is durable, or fails with StoreError."""
        unit = Unit(statements)
        # What is queued is written: a caller that goes away cannot take it back.
        unit.done.set_running_or_notify_cancel()
        with self._guard:
            if self._closed:
                raise StoreError(f"The trace store {self._path} is closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="koboshi-store", daemon=True)
                self._thread.start()
            self._queue.put(unit)
        return unit.done

    def close(self) -> None:
        """Commit what is queued and close; a second call does nothing."""
        with self._guard:
            first, self._closed = not self._closed, True
            if first and self._thread is not None:
                self._queue.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        try:
            while (unit := self._queue.get()) is not None and self._commit([unit]):
                pass
        finally:
            if self._connection is not None:
                with write_lock(self._path):
                    self._connection.close()

    def _commit(self, units: list[Unit]) -> bool:
        go_on = True
        failed: dict[int, Exception] = {}
        try:
            with translated(self._path), write_lock(self._path):
                go_on = self._take_waiting(units)
                connection = self._open()
                failed = _write(connection, units)
                self._checkpoint(connection)
        except Exception as error:
            failed = dict.fromkeys(range(len(units)), error)
        for index, unit in enumerate(units):
            _resolve(unit, failed.get(index), self._path)
        return go_on

    def _take_waiting(self, units: list[Unit]) -> bool:
        try:
            while (unit := self._queue.get_nowait()) is not None:
                units.append(unit)
        except Empty:
            return True
        return False

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect_for_writing(self._path, max_bytes=self._max_bytes)
        return self._connection

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        log = self._path.with_name(self._path.name + "-wal")
        if log.stat().st_size < _CHECKPOINT_BYTES:
            return
        connection.execute("PRAGMA busy_timeout = 0")
        # The units are durable already: a log that cannot be folded now is folded after the next commit.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA busy_timeout = 30000")


def _write(connection: sqlite3.Connection, units: list[Unit]) -> dict[int, Exception]:
    failed: dict[int, Exception] = {}
    connection.execute("BEGIN IMMEDIATE")
    try:
        for index, unit in enumerate(units):
            if error := _apply(connection, unit):
                failed[index] = error
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return failed


def _apply(connection: sqlite3.Connection, unit: Unit) -> Exception | None:
    connection.execute("SAVEPOINT unit")
    try:
        for statement in unit.statements:
            changed = connection.execute(statement.sql, statement.values).rowcount
            if statement.must_change and not changed:
                raise StoreRuleError(statement.must_change)
    except (StoreError, sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
        connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")
        return error
    connection.execute("RELEASE unit")
    return None


def _resolve(unit: Unit, error: Exception | None, path: Path) -> None:
    if error is None:
        unit.done.set_result(None)
    elif isinstance(error, sqlite3.Error):
        unit.done.set_exception(store_error(path, error))
    else:
        unit.done.set_exception(error)
