"""A store that takes what a run records and keeps nothing of it: what recording costs is measured beside it."""

from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from ..records import Split
from ..store import RunRecorder, Store
from ..store.recorder import Event, Watch
from ..store.write import Statement


class NullStore(Store):
    """Reads an empty file; made by `at`."""

    @classmethod
    def at(cls, path: Path) -> "NullStore":
        """Make the empty file at `path`, so that what a runner asks before it begins finds tables."""
        Store.open(path).close()
        return cls(path, None)

    def recorder(self, run_id: str, watch: Watch | None = None) -> RunRecorder:
        """Return a recorder that forgets."""
        return _NullRecorder(self, run_id, watch)

    def submit(self, statements: tuple[Statement, ...]) -> Future[None]:
        """Return a future that is done; nothing is written."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def assign_splits(self, prompts: Iterable[tuple[str, Split | None]]) -> list[Split]:
        """Return the splits that the prompts were given, train for one without."""
        return [given or Split.TRAIN for _, given in prompts]


class _NullRecorder(RunRecorder):
    """Tells the watcher as every recorder does, and packs no row."""

    def start(self, header: object) -> None:
        pass

    def turn(self, turn: Event) -> None:
        self._tell(turn)

    def intent(self, intent: Event) -> None:
        self._tell(intent)

    def result(self, idempotency_key: str, result: Event) -> None:
        self._tell(result)

    def add(self, statements: object) -> None:
        pass

    def outcome(self, outcome: object) -> None:
        pass

    def status(self, status: object) -> None:
        pass

    def end(self, end: object) -> None:
        pass

    async def commit(self, thread_state: bytes | None = None) -> None:
        pass
