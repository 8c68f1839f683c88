"""Forget a run: take its content out of the home, and name the models that learnt from it.

Removed are its rows in the store, and those of its forks, which hold turns of it; the rows of every dataset that holds
one of them, reports that quote them, copies of the store from before a migration, and the prompt beginnings kept on
disk. What remains is that they were forgotten: their ids, by whom, why, and which models learnt from them. A model
cannot unlearn; train again without the run, or go back.

Not covered: backups and exports that were made before, which the home does not know of, and what a disk keeps of
overwritten blocks.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from koboshi_tools import Frozen, KoboshiError, UsageError

from ..files import try_locked
from ..home import Home
from ..ids import utc_now
from ..models.registry import Registry
from ..records import RunStatus, Trajectory
from ..store import RunFilter, Store
from ..store.codecs import pack_json, pack_text
from ..store.prune import delete_runs

ROWS_FILE = "rows.jsonl.gz"
"""The rows of a dataset; without them its manifest still says which runs it held."""

TRAINING_LOCKS = ("train.lock", "nightly.lock")
"""Who trains, or makes a night, holds one of these in `run/`."""

_QUOTED = 20
"""Characters of a text that show a report to quote it; shorter ones stand in reports by chance."""

_LARGEST_REPORT = 64 << 20


class LearntBy(Frozen):
    """A model that was trained on a forgotten run, and where it stands."""

    model_hash: str
    name: str
    state: str


class Forgotten(Frozen):
    """What was removed, by paths below the home, and the models that learnt from the run or from its `forks`."""

    run_id: str
    forks: tuple[str, ...]
    removed: tuple[str, ...]
    learnt_by: tuple[LearntBy, ...]


def forget(home: Home, store: Store, run_id: str, *, who: str, why: str = "") -> Forgotten:
    """Forget a run that has ended; `store` is closed by it.

    Raises UsageError for a run that is going on, KoboshiError while a training or a night runs, which may be learning
    from it, StoreError. A crash in the middle is mended by calling it again: the row of the run goes last.
    """
    trajectory = store.trajectory(run_id)
    if trajectory.end is None or trajectory.end.status is RunStatus.RUNNING:
        raise UsageError(
            f"run {run_id} has not ended", hint=f"End it first: koboshi run --resume {run_id}, or interrupt it."
        )
    with ExitStack() as stack:
        if not all([stack.enter_context(try_locked(home.run / name)) for name in TRAINING_LOCKS]):
            raise KoboshiError(
                "a training runs, and may be learning from the run", hint="Forget it when that has ended."
            )
        return _forget(home, store, trajectory, who=who, why=why)


def _forget(home: Home, store: Store, trajectory: Trajectory, *, who: str, why: str) -> Forgotten:
    forks = list(_forks(store, trajectory.run_id))
    run_ids = (*(fork.run_id for fork in forks), trajectory.run_id)
    datasets = tuple(_datasets_with(home, run_ids))
    learnt = _models_of(home, store, {str(manifest.get("dataset_hash")) for _, manifest in datasets})
    removed = [folder / ROWS_FILE for folder, _ in datasets if (folder / ROWS_FILE).exists()]
    removed += _reports_that_quote(home, (*forks, trajectory))
    removed += sorted(home.root.glob("traces.db.schema-*"))
    removed += sorted((home.run / "prefixes").glob("*"))
    for path in removed:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    store.close()
    named = pack_json([model.model_dump(mode="json") for model in learnt])
    delete_runs(home.traces, run_ids, (pack_text(why), pack_text(who), named, utc_now()))
    shown = tuple(str(path.relative_to(home.root)) for path in removed if path.parent.name != "prefixes")
    return Forgotten(run_id=trajectory.run_id, forks=run_ids[:-1], removed=("traces.db", *shown), learnt_by=learnt)


def _forks(store: Store, run_id: str) -> Iterator[Trajectory]:
    """Yield the forks of a run and theirs, those first that none was forked from."""
    for row in store.runs(RunFilter(fork_of=run_id)):
        yield from _forks(store, row.run_id)
        yield store.trajectory(row.run_id)


def _datasets_with(home: Home, run_ids: Collection[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(home.datasets.glob("*/manifest.json")):
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            continue
        if not set(run_ids).isdisjoint(manifest.get("run_ids", ())):
            yield path.parent, manifest


def _models_of(home: Home, store: Store, dataset_hashes: set[str]) -> tuple[LearntBy, ...]:
    """Return the models that were trained on these datasets: those of the registry, and those removed since."""
    found = {
        entry.manifest.model_hash: LearntBy(
            model_hash=entry.manifest.model_hash, name=entry.manifest.name, state=entry.state.value
        )
        for entry in Registry(home).list()
        if entry.manifest.parents.dataset in dataset_hashes
    }
    for row in store.models():
        if (row.manifest.get("parents") or {}).get("dataset") in dataset_hashes:
            gone = LearntBy(model_hash=row.model_hash, name=row.name, state="removed")
            found.setdefault(row.model_hash, gone)
    return tuple(found.values())


def _reports_that_quote(home: Home, runs: Sequence[Trajectory]) -> list[Path]:
    """Return the files for people that name one of the runs or hold one of their texts, as it is or as JSON has it."""
    texts = {text for run in runs for text in _texts(run) if len(text) >= _QUOTED}
    needles = [*(run.run_id for run in runs), *texts, *(json.dumps(text)[1:-1] for text in texts)]
    wanted = [needle.encode("utf-8", "surrogatepass") for needle in needles]
    return [path for path in _written_for_people(home) if _holds(path, wanted)]


def _texts(trajectory: Trajectory) -> Iterator[str]:
    yield trajectory.header.prompt
    for turn in trajectory.turns:
        yield turn.reply.text
    for call in trajectory.calls:
        yield from (value for value in call.intent.call.arguments.values() if isinstance(value, str))
        if call.result is not None:
            yield call.result.output
    if trajectory.end is not None and trajectory.end.answer:
        yield trajectory.end.answer


def _written_for_people(home: Home) -> Iterator[Path]:
    for folder in (home.reports, home.runs):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix in (".md", ".json", ".jsonl", ".txt", ".html"):
                yield path


def _holds(path: Path, wanted: list[bytes]) -> bool:
    if path.stat().st_size > _LARGEST_REPORT:
        return False
    data = path.read_bytes()
    return any(needle in data for needle in wanted)
