"""What runs on a home: its server, the model workers, and the runs in progress. Read from the store and from /proc."""

from collections.abc import Iterator
from pathlib import Path

from koboshi_tools import Frozen

from ..home import Home
from ..presence import ServerRecord, running_server
from ..store import Store
from ..store.codecs import unpack_text
from ..store.owner import is_alive
from ..worker_process import model_of


class WorkerRow(Frozen):
    """A model worker: `parent` is the process that uses it, `memory_mb` what it holds (MB of 1,000,000 bytes)."""

    pid: int
    parent: int
    model_hash: str
    memory_mb: int


class RunningRow(Frozen):
    """A run in progress, and the process that has it."""

    run_id: str
    pid: int
    purpose: str
    prompt: str
    created_at: str


class Processes(Frozen):
    """All of it."""

    server: ServerRecord | None
    workers: tuple[WorkerRow, ...]
    runs: tuple[RunningRow, ...]


def processes(home: Home) -> Processes:
    """Return what runs on a home now."""
    runs = tuple(_running(Store.read_only(home.traces))) if home.traces.exists() else ()
    return Processes(server=running_server(home), workers=tuple(_workers(home)), runs=runs)


def _running(store: Store) -> Iterator[RunningRow]:
    sql = "SELECT run_id, owner, purpose, prompt, created_at FROM runs WHERE status = 'running' ORDER BY id"
    with store.reading() as db:
        rows = db.execute(sql).fetchall()
    for row in rows:
        if row["owner"] is not None and is_alive(row["owner"]):
            yield RunningRow(
                run_id=row["run_id"],
                pid=int(row["owner"].split(":")[1]),
                purpose=row["purpose"],
                prompt=unpack_text(row["prompt"]),
                created_at=row["created_at"],
            )


def _workers(home: Home) -> Iterator[WorkerRow]:
    models = home.models.resolve()
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            model = model_of((folder / "cmdline").read_bytes())
            status = (folder / "status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            # It ended meanwhile, or is another user's.
            continue
        if model is not None and model.resolve().is_relative_to(models):
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            yield WorkerRow(
                pid=int(folder.name),
                parent=int(fields["PPid"]),
                model_hash=model.parent.name,
                memory_mb=round(int(fields.get("VmRSS", "0 kB").split()[0]) * 1024 / 1e6),
            )
