"""What happens to the store when processes race, die, run out of disk, or are of another version."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlite_utils import Database
from tests.runtime.store_samples import header, intent, turn

from koboshi_runtime.records import RunStatus
from koboshi_runtime.store import RunFilter, RunRecorder, SchemaTooNewError, Store, StoreError
from koboshi_runtime.store.migrations import SCHEMA_VERSION, all_steps
from koboshi_runtime.store.write import Statement, start_run

ROOT = Path(__file__).parents[2]

WRITER = """
import asyncio, sys
from pathlib import Path
from koboshi_runtime.store import RunRecorder, Store
from tests.runtime.store_samples import DONE, OK, header, intent, turn

async def main(path, name, count):
    store = Store.open(Path(path))
    print("ready", flush=True)
    for number in range(count):
        recorder = RunRecorder(store, f"{name}-{number}")
        recorder.start(header())
        recorder.turn(turn())
        recorder.intent(intent(recorder.run_id))
        await recorder.commit(b"state")
        recorder.result(recorder.run_id, OK)
        recorder.end(DONE)
        await recorder.commit()
        print(recorder.run_id, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def start_writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def read_lines(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout is not None
    return [line.strip() for line in process.stdout if line.endswith("\n")]


@pytest.mark.slow
def test_two_processes_write_while_a_reader_reads_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    reader = Store.open(path)
    writers = [start_writer(path, name, 200) for name in ("left", "right")]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        finished = reader.runs(RunFilter(status=RunStatus.FINISHED, limit=500))
        assert len(finished) >= seen
        seen = len(finished)
    acknowledged = [line for writer in writers for line in read_lines(writer) if line != "ready"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert {row.run_id for row in reader.runs()} == set(acknowledged)
    assert (len(acknowledged), reader.check().problems, reader.check().in_doubt) == (400, (), 0)


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    store = Store.open(path)
    rng = random.Random(0)
    acknowledged: set[str] = set()
    for moment in range(10):
        writer = start_writer(path, f"m{moment}", 10_000)
        assert writer.stdout is not None
        for _ in range(1 + rng.randrange(30)):
            acknowledged.add(writer.stdout.readline().strip())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged.update(read_lines(writer))
        writer.wait()
        assert store.check().problems == ()
        store.start_run(f"after-{moment}", header()).result()
    finished = {row.run_id for row in store.runs(RunFilter(status=RunStatus.FINISHED))}
    assert acknowledged - {"ready"} <= finished
    assert len(acknowledged) > 10


@pytest.mark.slow
def test_what_a_killed_process_left_is_unfinished_and_in_doubt(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    script = WRITER.partition("        recorder.result")[0] + "        import os; os.kill(os.getpid(), 9)\n"
    script += WRITER[WRITER.index("\nasyncio.run") :]
    subprocess.run([sys.executable, "-c", script, str(path), "dead", "1"], cwd=ROOT, check=False, capture_output=True)
    store = Store.open(path)
    assert (store.unfinished(), store.in_doubt("dead-0")) == (["dead-0"], [intent("dead-0")])
    assert store.claim("dead-0")


@pytest.mark.slow
def test_a_run_of_a_live_process_is_not_taken_up_by_another(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    script = WRITER.partition("        recorder.result")[0] + "        print('held', flush=True); sys.stdin.read()\n"
    script += WRITER[WRITER.index("\nasyncio.run") :]
    command = [sys.executable, "-c", script, str(path), "live", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert [holder.stdout.readline() for _ in range(2)] == ["ready\n", "held\n"]
        store = Store.open(path)
        assert (store.unfinished(), store.claim("live-0")) == ([], False)
        holder.kill()
    assert store.unfinished() == ["live-0"]


def test_a_full_disk_is_an_error_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db", max_bytes=400_000)
    acknowledged: list[str] = []

    async def fill() -> None:
        for number in range(10_000):
            recorder = RunRecorder(store, f"run{number}")
            recorder.start(header("word " * 1000 + str(number)))
            await recorder.commit()
            acknowledged.append(recorder.run_id)

    with pytest.raises(StoreError, match="full") as caught:
        asyncio.run(fill())
    assert caught.value.hint == "Free some disk space; every step that was acknowledged is kept."
    store.close()
    again = Store.open(tmp_path / "traces.db")
    assert sorted(row.run_id for row in again.runs()) == sorted(acknowledged)
    assert (again.check().problems, len(acknowledged) > 5) == ((), True)
    again.start_run("later", header()).result()
    assert again.resolve("later") == "later"


def test_a_commit_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db", max_bytes=300_000)
    recorder = RunRecorder(store, "a")
    recorder.start(header())
    with pytest.raises(StoreError, match="full"):
        asyncio.run(recorder.commit(bytes(1_000_000)))
    asyncio.run(recorder.commit(b"small"))
    assert store.thread_state("a") == b"small"


def _insert_what_is_known(db: sqlite3.Connection, statement: Statement) -> None:
    table, _, rest = statement.sql.removeprefix("INSERT INTO ").partition(" (")
    known = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
    columns = dict(zip(rest.partition(")")[0].split(", "), statement.values, strict=True))
    kept = {name: value for name, value in columns.items() if name in known}
    db.execute(f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({', '.join('?' * len(kept))})", tuple(kept.values()))


@pytest.mark.parametrize(
    "first_missing", [None, *(migration.name for migration in all_steps().pending(Database(memory=True)))]
)
def test_a_file_of_any_older_schema_is_migrated(tmp_path: Path, first_missing: str | None) -> None:
    path = tmp_path / "traces.db"
    with sqlite3.connect(path, isolation_level=None) as old:
        all_steps().apply(Database(old), stop_before=first_missing)
        number = len(all_steps().applied(Database(old)))
        old.execute(f"PRAGMA user_version = {number}")
        for statement in start_run("old", header("ancient pears")) if number else ():
            _insert_what_is_known(old, statement)
    old.close()
    store = Store.open(path)
    store.start_run("new", header()).result()
    assert [row.run_id for row in store.runs(RunFilter(text="pears"))] == (["old"] if number else [])
    assert (store.check().schema_version, store.check().problems) == (SCHEMA_VERSION, ())


def test_the_schema_version_is_the_number_of_migrations() -> None:
    assert len(all_steps().pending(Database(memory=True))) == SCHEMA_VERSION


@pytest.mark.parametrize("opened", [Store.open, Store.read_only])
def test_a_newer_schema_is_refused_by_its_number_and_left_untouched(
    tmp_path: Path, opened: Callable[[Path], Store]
) -> None:
    path = tmp_path / "traces.db"
    Store.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNewError, match=f"schema 99; this koboshi knows {SCHEMA_VERSION}"):
        opened(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    path.write_text("not a database, but some text that is long enough to be read as a header" * 10, encoding="utf-8")
    with pytest.raises(StoreError, match="file is not a database") as caught:
        Store.open(path)
    assert caught.value.hint == "The file is no SQLite database: move it away, or choose another home."


def test_a_damaged_page_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    store = Store.open(path)
    for number in range(50):
        recorder = RunRecorder(store, f"run{number}")
        recorder.start(header("pears " * 200 + str(number)))
        recorder.turn(turn())
        asyncio.run(recorder.commit())
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 8192] = bytes(8192)
    path.write_bytes(damaged)
    report = Store.open(path).check()
    assert (report.ok, report.problems != ()) == (False, True)


def test_a_store_is_closed_when_its_process_ends(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from koboshi_runtime.store import Store; "
        "from tests.runtime.store_samples import header; "
        "store = Store.open(Path(sys.argv[1])); store.start_run('a', header())"
    )
    path = tmp_path / "traces.db"
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=True)
    assert not path.with_name("traces.db-wal").exists()
    assert Store.open(path).resolve("a") == "a"
