"""F20: stores of earlier schemas open and migrate, newer ones are refused, and backups restore to equal hashes."""

import gzip
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.store_samples import DONE, OK, header, label, record

from koboshi_runtime.cli import main
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.house import backup as backups
from koboshi_runtime.records import OutcomeLabel, OutcomeSource, Purpose, RunStatus
from koboshi_runtime.store import RunFilter, SchemaTooNewError, Store
from koboshi_runtime.store.migrations import SCHEMA_VERSION
from koboshi_tools import KoboshiError, ToolCall, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
OLDER = sorted(GOLDEN.glob("store-schema-*.db.gz"))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


def unpacked(golden: Path, target: Path) -> bytes:
    """Write the store that an earlier version wrote, and return its bytes."""
    data = gzip.decompress(golden.read_bytes())
    target.write_bytes(data)
    return data


def dumped(path: Path) -> list[str]:
    """Return all tables of a store as SQL."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return list(db.iterdump())


def hashes(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def furnish(home: Home) -> None:
    """Put one of everything that is kept into a home, and things that are not."""
    with closing(Store.open(home.traces)) as store:
        record(store, "a" * 16, header(), calls=(("calculator", OK),), outcomes=(label(OutcomeLabel.SUCCESS),))
    for name in ("models/ab12/model.gguf", "datasets/cd/rows.jsonl.gz", "runs/ef/loss.json", "reports/night.md"):
        path = home.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    (home.models / "current").write_text('{"current": "sha256:ab12"}', encoding="utf-8")
    (home.trust / "shop.json").write_text("{}", encoding="utf-8")
    (home.run / "socket").write_text("", encoding="utf-8")
    (home.runs / ".tmp-half").write_text("half", encoding="utf-8")
    (home.reports / "link").symlink_to("/etc/hostname")


def test_there_is_a_store_of_every_earlier_schema_that_was_released() -> None:
    assert [path.name for path in OLDER] == [f"store-schema-{number}.db.gz" for number in (3, 4, 5, 6)]


@pytest.mark.parametrize("golden", OLDER, ids=lambda path: path.name.split(".")[0])
def test_an_older_store_opens_with_all_that_it_held_and_its_copy_is_kept(home: Home, golden: Path) -> None:
    before = unpacked(golden, home.traces)
    with closing(Store.open(home.traces)) as store:
        report = store.check()
        assert (report.problems, report.schema_version, report.runs) == ((), SCHEMA_VERSION, 3)
        run = store.trajectory("a" * 16)
        assert (run.header.prompt, run.outcome, run.turns[0].reply.ids) == (
            "How many apples are left?",
            OutcomeLabel.SUCCESS,
            (11, 12, 2),
        )
        assert [call.intent.call for call in run.calls] == [
            ToolCall(name="calculator", arguments={"expression": "6*7"})
        ] * 2
        assert [call.result is None for call in run.calls] == [False, True]
        other = store.trajectory("b" * 16)
        assert (other.header.purpose, other.outcomes[0].source) == (Purpose.EVAL, OutcomeSource.PERSON)
        assert [row.run_id for row in store.runs(RunFilter(status=RunStatus.RUNNING))] == ["c" * 16]
        assert [hit.run_id for hit in store.search("apples")] == ["a" * 16]
        record(store, "d" * 16, header(), end=DONE)
    number = golden.name.split("-")[2].split(".")[0]
    kept = home.root / f"traces.db.schema-{number}"
    (original := home.root / "original").write_bytes(before)
    assert dumped(kept) == dumped(original)
    with closing(sqlite3.connect(f"file:{kept}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (int(number),)
    assert not list(home.root.glob(".tmp-*"))


def test_a_newer_store_is_refused_with_a_message_and_left_as_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(home.traces).close()
    with closing(sqlite3.connect(home.traces)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = home.traces.read_bytes()
    with pytest.raises(SchemaTooNewError, match=f"has schema {SCHEMA_VERSION + 1}"):
        Store.open(home.traces)
    monkeypatch.setenv("KOBOSHI_HOME", str(home.root))
    shown = CliRunner().invoke(main, ["traces", "list"])
    assert (shown.exit_code, "Update koboshi" in shown.stderr, home.traces.read_bytes() == before) == (1, True, True)


def test_a_backup_restores_to_equal_hashes(home: Home, tmp_path: Path) -> None:
    furnish(home)
    made = backups.back_up(home, tmp_path / "copy")
    again = Home(tmp_path / "again")
    assert backups.restore(tmp_path / "copy", again) == made == backups.verify(tmp_path / "copy")
    there = {name: each for name, each in hashes(tmp_path / "copy").items() if name != backups.NAME}
    assert hashes(again.root) == there
    assert {
        name: each for name, each in hashes(home.root).items() if name.startswith("models")
    }.items() <= there.items()
    assert sorted(path.path for path in made.files if "traces" not in path.path) == [
        "datasets/cd/rows.jsonl.gz",
        "models/ab12/model.gguf",
        "models/current",
        "reports/night.md",
        "runs/ef/loss.json",
        "trust/shop.json",
    ]
    with closing(Store.open(home.traces)) as old, closing(Store.open(again.traces)) as new:
        assert new.trajectory("a" * 16) == old.trajectory("a" * 16)
    assert (again.root.stat().st_mode & 0o777, again.traces.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_restore_never_overwrites(home: Home, tmp_path: Path) -> None:
    furnish(home)
    backups.back_up(home, tmp_path / "copy")
    before = hashes(home.root)
    with pytest.raises(UsageError, match="nothing is overwritten"):
        backups.restore(tmp_path / "copy", home)
    assert hashes(home.root) == before
    with pytest.raises(UsageError, match="exists already"):
        backups.back_up(home, tmp_path / "copy")


def test_an_empty_home_that_a_command_began_can_be_restored_into(home: Home, tmp_path: Path) -> None:
    furnish(home)
    backups.back_up(home, tmp_path / "copy")
    begun = open_home(path=tmp_path / "begun")
    (begun.run / "worker.lock").touch()
    backups.restore(tmp_path / "copy", begun)
    assert (begun.models / "current").exists()


@pytest.mark.parametrize("harm", ["changed", "missing", "link", "strange", "store"])
def test_a_backup_that_is_not_what_it_says_is_refused_and_leaves_no_home(home: Home, tmp_path: Path, harm: str) -> None:
    furnish(home)
    copy = tmp_path / "copy"
    backups.back_up(home, copy)
    model = copy / "models" / "ab12" / "model.gguf"
    if harm == "changed":
        model.write_bytes(model.read_bytes()[:-1] + b"x")
    elif harm == "missing":
        model.unlink()
    elif harm == "link":
        shutil.copy(model, tmp_path / "elsewhere")
        model.unlink()
        model.symlink_to(tmp_path / "elsewhere")
    elif harm == "strange":
        listed = (copy / backups.NAME).read_text(encoding="utf-8")
        (copy / backups.NAME).write_text(listed.replace("models/current", "models/../../out"), encoding="utf-8")
    else:
        _damage_the_store(copy)
    with pytest.raises(KoboshiError, match="is not what|belongs to no home|is damaged"):
        backups.restore(copy, Home(tmp_path / "again"))
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".tmp-*"))


def _damage_the_store(copy: Path) -> None:
    """Damage a page and name the damaged file by its new hash, as someone would who made a bad backup."""
    path = copy / "traces.db"
    old = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    data = bytearray(path.read_bytes())
    data[4096 * 4 : 4096 * 6] = b"\xff" * 8192
    path.write_bytes(data)
    listed = (copy / backups.NAME).read_text(encoding="utf-8")
    new = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    (copy / backups.NAME).write_text(listed.replace(old, new), encoding="utf-8")


WRITER = """
import sys
from pathlib import Path
from koboshi_runtime.store import Store
from tests.runtime.store_samples import OK, header, record
store = Store.open(Path(sys.argv[1]))
for number in range(100_000):
    record(store, f"run{number:013}", header(f"prompt {number}"), calls=(("look", OK),))
    print(number, flush=True)
"""


@pytest.fixture
def writer(home: Home) -> Iterator["subprocess.Popen[str]"]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(home.traces)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process
        process.kill()


@pytest.mark.slow
def test_a_backup_made_while_agents_write_is_one_moment_of_the_store(
    home: Home, tmp_path: Path, writer: "subprocess.Popen[str]"
) -> None:
    assert writer.stdout is not None
    for number in range(3):
        begun = int(writer.stdout.readline())
        backups.back_up(home, tmp_path / f"copy{number}")
        again = Home(tmp_path / f"again{number}")
        backups.restore(tmp_path / f"copy{number}", again)
        with closing(Store.open(again.traces)) as store:
            rows = store.runs()
            assert (store.check().problems, len(rows) > begun) == ((), True)
            assert {(row.status, row.steps, row.calls) for row in rows} == {(RunStatus.FINISHED, 1, 1)}


def test_the_verbs_back_up_verify_and_restore(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(home)
    monkeypatch.setenv("KOBOSHI_HOME", str(home.root))
    made = CliRunner().invoke(main, ["backup", str(tmp_path / "copy")])
    assert (made.exit_code, made.stdout) == (0, f"{tmp_path / 'copy'}\n")
    assert CliRunner().invoke(main, ["backup", "--verify", str(tmp_path / "copy")]).exit_code == 0
    refused = CliRunner().invoke(main, ["restore", str(tmp_path / "copy")])
    assert (refused.exit_code, "Move it away" in refused.stderr) == (2, True)
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "again"))
    assert CliRunner().invoke(main, ["restore", str(tmp_path / "copy")]).stdout == f"{tmp_path / 'again'}\n"
    assert CliRunner().invoke(main, ["backup", "--verify"]).exit_code == 2
