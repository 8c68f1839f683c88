"""Keep a home within its disk budget: what may go, in which order, and what never does.

Leftovers and scratch copies of killed processes always go. Everything else goes only while the home is over
`[disk] budget_gb`, what is made again most cheaply first: prompt beginnings, copies of the store from before
migrations, working files of trainings, thread state and texts of old runs that were made to learn or to measure,
retired and old candidate models, rows of datasets, F16 masters.

Never deleted: the current and the previous model and what they were made from, anything that a person did or judged
(`work` runs, labels, approvals), prompts and outcomes of any run, manifests of datasets, reports, trust. While a
training runs, nothing that it may use is touched.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from koboshi_tools import Frozen

from ..files import TEMPORARY, try_locked
from ..home import Home
from ..models.manifest import ModelState
from ..models.registry import ModelEntry, Registry
from ..scratch import stale_copies
from ..store import Store
from ..store.prune import delete_texts, delete_thread_state, rebuild
from .forget import ROWS_FILE, TRAINING_LOCKS

_DAY_S = 86_400.0
_TRAINING = frozenset("0123456789abcdef")
_MASTER = "master.f16.gguf"

_OLD_TEXTS = """
SELECT r.run_id, coalesce((SELECT sum(length(reply) + length(reply_ids) + length(raw_logprobs)
    + length(behaviour_logprobs) + 200) FROM steps WHERE run_id = r.run_id), 0)
  + coalesce((SELECT sum(length(arguments) + coalesce(length(output), 0) + 200) FROM tool_calls
    WHERE run_id = r.run_id), 0) AS bytes
FROM runs r WHERE r.purpose <> 'work' AND r.status IN ('finished', 'failed') AND r.created_at < ?
  AND EXISTS (SELECT 1 FROM steps WHERE run_id = r.run_id)
"""
_OLD_STATES = """
SELECT run_id, length(state) AS bytes FROM thread_state JOIN runs USING (run_id)
WHERE runs.status <> 'running' AND thread_state.updated_at < ?
"""


class Item(Frozen):
    """One thing that may go: what it is, where, its bytes, and whether it goes now."""

    what: str
    path: str
    bytes: int
    goes: bool = False


class Swept(Frozen):
    """What a sweep did, or would do: bytes of the home before, the budget, and every item in order."""

    before_bytes: int
    budget_bytes: int
    parts: dict[str, int]
    items: tuple[Item, ...]
    training: bool

    @property
    def freed_bytes(self) -> int:
        """The size of what goes."""
        return sum(item.bytes for item in self.items if item.goes)

    @property
    def fits(self) -> bool:
        """Whether the home is within its budget afterwards."""
        return self.before_bytes - self.freed_bytes <= self.budget_bytes


@dataclass(frozen=True, slots=True)
class _Candidate:
    what: str
    path: str
    bytes: int
    remove: Callable[[], None]
    always: bool = False


def sweep(home: Home, *, budget_bytes: int, keep_days: float, dry_run: bool) -> Swept:
    """Delete what may go until the home fits, or say what would. Raises StoreError, KoboshiError."""
    with ExitStack() as stack:
        free = [stack.enter_context(try_locked(home.run / name)) for name in TRAINING_LOCKS]
        before = sum(sizes(home).values())
        found = list(_candidates(home, keep_days, training=not all(free)))
        left, items, pruned = before, [], False
        for each in found:
            goes = each.always or left > budget_bytes
            left -= each.bytes * goes
            items.append(Item(what=each.what, path=each.path, bytes=each.bytes, goes=goes))
            if goes and not dry_run:
                each.remove()
                pruned = pruned or each.path == "traces.db"
        if pruned:
            rebuild(home.traces)
        return Swept(
            before_bytes=before,
            budget_bytes=budget_bytes,
            parts=sizes(home),
            items=tuple(items),
            training=not all(free),
        )


def sizes(home: Home) -> dict[str, int]:
    """Return the bytes of each part of the home."""
    # The index of the log is made and removed by whoever looks at the store.
    stored = (path for path in home.root.glob("traces.db*") if path.is_file() and not path.name.endswith("-shm"))
    store = sum(path.stat().st_size for path in stored)
    return {"traces": store, **{folder.name: _bytes(folder) for folder in home.folders[1:]}}


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.lstat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if each.is_file() and not each.is_symlink())


def _candidates(home: Home, keep_days: float, *, training: bool) -> Iterator[_Candidate]:
    yield from _leftovers(home)
    yield from _files("prompt beginning", home, _by_age((home.run / "prefixes").glob("*")))
    yield from _files("store before migration", home, sorted(home.root.glob("traces.db.schema-*")))
    if not training:
        yield from _files("training files", home, _by_age(_trainings(home)))
    if home.traces.exists():
        yield from _rows(home, keep_days)
    if not training:
        yield from _models(home, keep_days)


def _files(what: str, home: Home, paths: Iterable[Path], *, always: bool = False) -> Iterator[_Candidate]:
    for path in paths:
        yield _Candidate(what, str(path.relative_to(home.root)), _bytes(path), _remover(path), always)


def _remover(path: Path) -> Callable[[], None]:
    def remove() -> None:
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        # Renamed first: a folder that is half gone must not be taken for a whole one.
        gone = path if path.name.startswith(TEMPORARY) else path.with_name(f"{TEMPORARY}{path.name}")
        path.rename(gone)
        shutil.rmtree(gone)

    return remove


def _by_age(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def _leftovers(home: Home) -> Iterator[_Candidate]:
    """Yield what killed writers left behind a day ago or earlier: a younger one may have a living writer."""
    old = time.time() - _DAY_S
    found = [*home.root.glob(f"{TEMPORARY}*"), *home.run.glob("fetch-*")]
    for folder in (home.models, home.datasets, home.runs, home.reports, home.trust):
        found += folder.glob(f"{TEMPORARY}*")
    yield from _files("leftover", home, [p for p in sorted(found) if p.lstat().st_mtime < old], always=True)
    for folder in sorted(stale_copies()):
        yield _Candidate("scratch copy", str(folder), _bytes(folder), partial(shutil.rmtree, folder), always=True)


def _trainings(home: Home) -> Iterator[Path]:
    """Yield the working folders of trainings: their models are in `models/`, and the same training makes them again."""
    for path in home.runs.glob("*"):
        if path.is_dir() and len(path.name) == 16 and set(path.name) <= _TRAINING:
            yield path


def _rows(home: Home, keep_days: float) -> Iterator[_Candidate]:
    before = (datetime.now(UTC) - timedelta(days=keep_days)).isoformat(timespec="milliseconds")
    store = Store.read_only(home.traces)
    with store.reading() as db:
        states = [(str(row["run_id"]), int(row["bytes"])) for row in db.execute(_OLD_STATES, (before,))]
        texts = [(str(row["run_id"]), int(row["bytes"])) for row in db.execute(_OLD_TEXTS, (before,))]
    if states:
        ids = [run_id for run_id, _ in states]
        size = sum(size for _, size in states)
        what = f"thread state of {len(ids)} old runs"
        yield _Candidate(what, "traces.db", size, lambda: delete_thread_state(home.traces, ids))
    if texts:
        old = [run_id for run_id, _ in texts]
        size = sum(size for _, size in texts)
        yield _Candidate(f"texts of {len(old)} old runs", "traces.db", size, lambda: delete_texts(home.traces, old))


def _models(home: Home, keep_days: float) -> Iterator[_Candidate]:
    registry = Registry(home)
    entries = registry.list()
    live = [entry for entry in entries if entry.state in (ModelState.CURRENT, ModelState.PREVIOUS)]
    bases = {entry.manifest.parents.base for entry in entries if entry.state is not ModelState.RETIRED}
    before = (datetime.now(UTC) - timedelta(days=keep_days)).isoformat()
    for entry in entries:
        model_hash = entry.manifest.model_hash
        is_old = entry.state is ModelState.RETIRED or entry.manifest.created_at < before
        if entry not in live and model_hash not in bases and is_old and entry.manifest.parents.base:
            yield _model(home, registry, entry)
    learnt = {entry.manifest.parents.dataset for entry in live}
    rows = [path for path in home.datasets.glob(f"*/{ROWS_FILE}") if _dataset_hash(path) not in learnt]
    yield from _files("dataset rows", home, _by_age(rows))
    yield from _files("F16 master", home, _by_age(home.models.glob(f"[0-9a-f]*/{_MASTER}")))


def _model(home: Home, registry: Registry, entry: ModelEntry) -> _Candidate:
    folder = home.models / entry.manifest.model_hash.removeprefix("sha256:")
    what = f"{entry.state.value} model {entry.manifest.name}"
    path = str(folder.relative_to(home.root))
    return _Candidate(what, path, _bytes(folder), lambda: registry.remove(entry.manifest.model_hash))


def _dataset_hash(rows: Path) -> str | None:
    try:
        manifest = json.loads((rows.parent / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return None
    return str(manifest.get("dataset_hash"))
