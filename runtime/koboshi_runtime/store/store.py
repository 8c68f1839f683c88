"""The trace store: one SQLite file that holds every run, step, call, decision, outcome, model and job.

Promises. What a method acknowledged is on disk. Any number of processes write side by side (`lock`), and
readers never wait for them. A file of an older schema is copied beside itself and migrated when it is opened for
writing, one of a newer schema is refused by its number. Values come back equal, but for log-probabilities (float16).
No `sqlite3` error leaves this module: `StoreError` does.

Reading opens a connection of its own for each question, read-only and closed at once, so any thread may ask.
"""

import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from koboshi_tools import ToolResult, UsageError

from ..files import sync_folder, temporary_name
from ..ids import new_id, prompt_hash, split_of_hash
from ..model import PromptProfile
from ..records import CallIntent, Outcome, Purpose, RunHeader, Split, Trajectory
from . import query, read, write
from .copy import copy_database
from .errors import SchemaTooNewError, StoreError, StoreRuleError, translated
from .lock import write_lock
from .migrations import SCHEMA_VERSION, migrate, schema_version
from .owner import is_alive, this_process
from .queue import count_unlabelled, label_queue
from .recorder import RunRecorder, Watch
from .rows import CheckReport, JobRow, JobStatus, ModelRow, QueueRow, RunFilter, RunRow, SearchHit
from .runs import list_runs
from .write import Statement
from .writer import Writer, connect_for_writing

_BATCH_RUNS = 256
"""Runs that a stream of trajectories reads at once: a short read, and some 10 MB in memory."""


class Store:
    """The trace store of one home; made by `open` or `read_only`."""

    def __init__(self, path: Path, writer: Writer | None) -> None:
        self.path = path
        self._writer = writer
        self._splits: dict[str, Split] = {}
        self.close = weakref.finalize(self, writer.close if writer else _nothing)
        """Commit what is queued and give back the file; also done when the process ends."""

    @classmethod
    def open(cls, path: Path, *, max_bytes: int | None = None) -> "Store":
        """Open the store for reading and writing; make or migrate the file if needed.

        `max_bytes` bounds the file: a commit that would need more fails as on a full disk. Raises StoreError.
        """
        with translated(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if _version_of(path) < SCHEMA_VERSION:
                _migrate(path)
        return cls(path, Writer(path, max_bytes=max_bytes))

    @classmethod
    def read_only(cls, path: Path) -> "Store":
        """Open the store for reading; never writes. Raises StoreError if the file is missing or of another schema."""
        with translated(path):
            found = _version_of(path)
        if found < SCHEMA_VERSION:
            raise StoreError(
                f"The trace store {path} has schema {found}; this koboshi reads {SCHEMA_VERSION}.",
                hint="Run `koboshi db check` once: it migrates the file.",
            )
        return cls(path, None)

    def submit(self, statements: tuple[Statement, ...]) -> Future[None]:
        """Queue statements as one unit; the future is resolved when they are durable; it cannot be cancelled."""
        if self._writer is None:
            raise StoreError(f"The trace store {self.path} was opened for reading only.")
        return self._writer.submit(statements)

    def recorder(self, run_id: str, watch: Watch | None = None) -> RunRecorder:
        """Return what a run records by; `watch` is told each event before it is stored."""
        return RunRecorder(self, run_id, watch)

    def start_run(self, run_id: str, header: RunHeader) -> Future[None]:
        """Queue the opening of a run."""
        return self.submit(tuple(write.start_run(run_id, header)))

    def add_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Append a label to a run; durable on return."""
        self._write(write.add_outcome(run_id, outcome))

    def take_back_label(self, run_id: str, who: str) -> None:
        """Take back the last label that a person gave a run; durable on return. Raises StoreRuleError without one."""
        self._write(write.take_back_label(run_id, who))

    def claim(self, run_id: str) -> bool:
        """Take up an unfinished run for this process; False if another live process holds it or took it first."""
        with self._reading() as db:
            row = db.execute("SELECT owner FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or _held_elsewhere(row["owner"]):
            return False
        try:
            self._write(write.claim_run(run_id, row["owner"]))
        except StoreRuleError:
            return False
        return True

    def record_model(
        self, model_hash: str, *, name: str, profile: PromptProfile, manifest: Mapping[str, Any], state: str
    ) -> None:
        """Record a model, or what changed of one that is known; durable on return."""
        self._write(write.put_model(model_hash, name=name, profile=profile, manifest=manifest, state=state))

    def start_job(self, kind: str, manifest: Mapping[str, Any]) -> str:
        """Record that a job began, and return its id; durable on return."""
        job_id = new_id()
        self._write(write.put_job(job_id, kind, manifest))
        return job_id

    def finish_job(self, job_id: str, status: JobStatus, result: Mapping[str, Any] | None = None) -> None:
        """Record how a job ended; durable on return. Raises StoreError if it does not run."""
        self._write(write.close_job(job_id, status, result))

    def assign_splits(self, prompts: Iterable[tuple[str, Split | None]]) -> list[Split]:
        """Give each prompt its split at first sight (its own, or by its hash) and return the splits that hold.

        The first sight is final: a prompt that was ever of one split stays there, whatever a pack says later.
        """
        asked = list(prompts)
        # A split that was seen once is never another, so nobody waits for a commit to hear of it again.
        unseen = [(prompt, given) for prompt, given in asked if prompt_hash(prompt) not in self._splits]
        if unseen:
            statements: list[Statement] = []
            for prompt, given in unseen:
                split = given or split_of_hash(prompt_hash(prompt))
                statements += write.put_task(prompt, split, "pack" if given else "hash")
            self._write(statements)
            with self._reading() as db:
                found = {prompt_hash(prompt): _find_split(db, prompt) for prompt, _ in unseen}
            self._splits |= {name: split for name, split in found.items() if split is not None}
        return [self._splits[prompt_hash(prompt)] for prompt, _ in asked]

    def assign_split(self, prompt: str, given: Split | None = None) -> Split:
        """Do `assign_splits` for one prompt."""
        return self.assign_splits([(prompt, given)])[0]

    def split_of(self, prompt: str) -> Split | None:
        """Return the split of a prompt, or None if it was never seen."""
        with self._reading() as db:
            return _find_split(db, prompt)

    def trajectory(self, run_id: str) -> Trajectory:
        """Return the stored record of a run. Raises UsageError if there is none."""
        with self._reading() as db:
            found = read.read_trajectory(db, run_id, {})
        if found is None:
            raise UsageError(f"No run {run_id!r} is recorded.", hint="`koboshi traces list` shows what is.")
        return found

    def iter_trajectories(
        self, purposes: Sequence[Purpose] = (), splits: Sequence[Split] = (), since: str | None = None
    ) -> Iterator[Trajectory]:
        """Yield trajectories in the order of writing; nothing stays open between the short reads of 256 runs."""
        with self._reading() as db:
            run_ids = iter(query.list_run_ids(db, purposes, splits, since))
        segments: read.Segments = {}
        while batch := list(islice(run_ids, _BATCH_RUNS)):
            with self._reading() as db:
                found = [read.read_trajectory(db, run_id, segments) for run_id in batch]
            yield from (trajectory for trajectory in found if trajectory)

    def runs(self, wanted: RunFilter | None = None) -> list[RunRow]:
        """Return the runs that `wanted` describes, the newest first."""
        with self._reading() as db:
            return list_runs(db, wanted or RunFilter()).rows

    def search(self, text: str, limit: int = 50) -> list[SearchHit]:
        """Return where all words of `text` occur in prompts, answers, replies, arguments and results."""
        with self._reading() as db:
            return query.search(db, text, limit)

    def label_queue(self, limit: int | None = None) -> list[QueueRow]:
        """Return the ended work runs that nobody has judged, the most informative first, with the reasons."""
        with self._reading() as db:
            return label_queue(db, limit)

    def count_unlabelled(self) -> int:
        """Return how many runs wait for a label; the queue ranks the newest 500 of them."""
        with self._reading() as db:
            return count_unlabelled(db)

    def thread_state(self, run_id: str) -> bytes | None:
        """Return the latest thread state of a run that has not ended, or None."""
        with self._reading() as db:
            row = db.execute("SELECT state FROM thread_state WHERE run_id = ?", (run_id,)).fetchone()
        return None if row is None else bytes(row["state"])

    def unfinished(self) -> list[str]:
        """Return the runs to take up again: they have thread state, and no other live process holds them."""
        sql = (
            "SELECT run_id, owner FROM runs JOIN thread_state USING (run_id) WHERE status IN ('running', 'interrupted')"
        )
        with self._reading() as db:
            return [row["run_id"] for row in db.execute(f"{sql} ORDER BY id") if not _held_elsewhere(row["owner"])]

    def in_doubt(self, run_id: str) -> list[CallIntent]:
        """Return the calls of a run that were begun and have no result."""
        with self._reading() as db:
            return read.read_in_doubt(db, run_id)

    def result_of(self, idempotency_key: str) -> ToolResult | None:
        """Return what came of a call, or None if it has no result or is not recorded."""
        with self._reading() as db:
            return read.read_result(db, idempotency_key)

    def prompt_hashes(self, purposes: Sequence[Purpose]) -> set[str]:
        """Return the hashes (`ids.prompt_hash`) of every prompt that was run for one of `purposes`."""
        marks = ", ".join("?" * len(purposes))
        with self._reading() as db:
            rows = db.execute(f"SELECT DISTINCT prompt_hash FROM runs WHERE purpose IN ({marks})", tuple(purposes))
            return {row["prompt_hash"] for row in rows}

    def models(self) -> list[ModelRow]:
        """Return the models that were recorded, the oldest first."""
        with self._reading() as db:
            return query.list_models(db)

    def jobs(self, kind: str | None = None) -> list[JobRow]:
        """Return the jobs of `kind`, or all, the newest first."""
        with self._reading() as db:
            return query.list_jobs(db, kind)

    def resolve(self, ref: str) -> str:
        """Return the run id that `ref` names: an id, its beginning, or `@last`. Raises UsageError."""
        with self._reading() as db:
            return query.resolve(db, ref)

    def check(self) -> CheckReport:
        """Read the whole file and say what is wrong with it."""
        with self._reading() as db:
            problems = query.find_problems(db)
            counts = {} if problems else query.count_rows(db)
            version = schema_version(db)
        log = self.path.with_name(self.path.name + "-wal")
        return CheckReport(
            ok=not problems,
            schema_version=version,
            problems=tuple(problems),
            file_bytes=self.path.stat().st_size,
            log_bytes=log.stat().st_size if log.exists() else 0,
            **counts,
        )

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give one read-only snapshot to a module of the store's that asks questions of its own."""
        return self._reading()

    def _write(self, statements: Sequence[Statement]) -> None:
        self.submit(tuple(statements)).result()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with translated(self.path), _read_connection(self.path) as db:
            db.execute("BEGIN")
            yield db


@contextmanager
def _read_connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA busy_timeout = 30000")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        yield connection
    finally:
        connection.close()


def _version_of(path: Path) -> int:
    with _read_connection(path) as db:
        found = schema_version(db)
    if found > SCHEMA_VERSION:
        raise SchemaTooNewError(
            f"The trace store {path} has schema {found}; this koboshi knows {SCHEMA_VERSION}.",
            hint="Update koboshi, or set KOBOSHI_HOME to another home.",
        )
    return found


def _migrate(path: Path) -> None:
    """Bring the file to this schema; what it was before is kept beside it, unless it was empty."""
    with write_lock(path):
        if (found := _version_of(path)) == SCHEMA_VERSION:
            return
        if found:
            kept = path.with_name(f"{path.name}.schema-{found}")
            unfinished = temporary_name(kept)
            copy_database(path, unfinished)
            unfinished.replace(kept)
            sync_folder(path.parent)
        connection = connect_for_writing(path)
        try:
            migrate(connection)
        finally:
            connection.close()


def _held_elsewhere(owner: str | None) -> bool:
    return owner is not None and owner != this_process() and is_alive(owner)


def _find_split(db: sqlite3.Connection, prompt: str) -> Split | None:
    row = db.execute("SELECT split FROM tasks WHERE prompt_hash = ?", (prompt_hash(prompt),)).fetchone()
    return None if row is None else Split(row["split"])


def _nothing() -> None:
    """Close a store that holds nothing."""
