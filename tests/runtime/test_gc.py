"""What a sweep deletes, in which order, and what it never does."""

import json
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.store_samples import OK, header, record
from tests.runtime.test_forget import learn

from koboshi_runtime.cli import main
from koboshi_runtime.files import locked
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.house.gc import Swept, sweep
from koboshi_runtime.models.manifest import GateProof
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.records import Purpose
from koboshi_runtime.scratch import scratch_copy
from koboshi_runtime.store import Store
from koboshi_tools import KoboshiError

TEXT = "spoken words " * 50


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    # Where scratch copies are looked for: not among those of the tests beside this one.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return open_home(path=tmp_path / "home")


def put(path: Path, size: int, *, days: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - days * 86_400,) * 2)


def furnish(home: Home) -> None:
    """Put something of every kind into a home: three models, of which the first is current, and old runs."""
    for name in ("base", "first", "second", "third"):
        learn(home, f"run of {name}", name)
    registry = Registry(home)
    registry.retire(registry.resolve("third").manifest.model_hash)
    put(home.models / registry.resolve("base").path.parent.name / "master.f16.gguf", 4000)
    put(home.run / "prefixes" / "aa", 1000)
    put(home.runs / "0123456789abcdef" / "adapter" / "a.bin", 2000)
    put(home.runs / "demo" / "state.json", 2000)
    put(home.root / "traces.db.schema-5", 3000)
    put(home.models / ".tmp-half", 500, days=2)
    put(home.models / ".tmp-alive", 500)
    with closing(Store.open(home.traces)) as store:
        for number, purpose in enumerate((Purpose.ROLLOUT, Purpose.WORK, Purpose.GATE)):
            record(store, f"run{number:013}", header(f"p{number}", purpose=purpose), calls=(("look", OK),), text=TEXT)
        record(store, "waits00000000000", header("p3"), end=None)
    _age(home)


def _age(home: Home) -> None:
    with closing(sqlite3.connect(home.traces)) as db:
        db.execute("UPDATE runs SET created_at = '2020-01-01T00:00:00.000+00:00'")
        db.execute("UPDATE thread_state SET updated_at = '2020-01-01T00:00:00.000+00:00'")
        db.execute("UPDATE runs SET status = 'interrupted' WHERE run_id = 'waits00000000000'")
        db.commit()


@pytest.fixture
def everything(home: Home) -> Swept:
    furnish(home)
    return sweep(home, budget_bytes=0, keep_days=30, dry_run=False)


def test_a_home_within_its_budget_loses_leftovers_only(home: Home) -> None:
    furnish(home)
    swept = sweep(home, budget_bytes=10**9, keep_days=30, dry_run=False)
    assert [item.path for item in swept.items if item.goes] == ["models/.tmp-half"]
    assert (home.models / ".tmp-alive").exists()
    assert swept.fits


def test_a_scratch_copy_goes_when_its_process_is_gone(home: Home, tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    put(tmp_path / "koboshi-scratch-dead" / "lock", 0)
    put(tmp_path / "koboshi-scratch-dead" / "workspace" / "file", 1000)
    with scratch_copy(source) as alive:
        put(tmp_path / "koboshi-scratch-late" / "lock", 10)
        swept = sweep(home, budget_bytes=10**9, keep_days=30, dry_run=False)
        assert [(item.what, item.bytes, item.goes) for item in swept.items] == [("scratch copy", 10, True)]
        assert alive.exists()
    assert sorted(path.name for path in tmp_path.glob("koboshi-scratch-*")) == []


def test_what_is_made_again_most_cheaply_goes_first(home: Home) -> None:
    furnish(home)
    swept = sweep(home, budget_bytes=0, keep_days=30, dry_run=True)
    assert [item.what for item in swept.items] == [
        "leftover",
        "prompt beginning",
        "store before migration",
        "training files",
        "thread state of 1 old runs",
        "texts of 2 old runs",
        "retired model third",
        "dataset rows",
        "dataset rows",
        "dataset rows",
        "F16 master",
    ]
    enough = swept.before_bytes - 500 - 900
    assert [item.goes for item in sweep(home, budget_bytes=enough, keep_days=30, dry_run=True).items] == [
        *(True, True),
        *[False] * 9,
    ]


def test_a_dry_run_deletes_nothing(home: Home) -> None:
    furnish(home)
    before = {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file()}
    sweep(home, budget_bytes=0, keep_days=30, dry_run=True)
    after = {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file()}
    assert {path for path in before if after.get(path) != before[path] and path.suffix != ".lock"} == set()


def test_current_previous_and_what_a_person_did_never_go(home: Home, everything: Swept) -> None:
    assert not everything.fits
    names = {entry.manifest.name: entry.state.value for entry in Registry(home).list()}
    assert names == {"base": "current", "first": "candidate", "second": "candidate"}
    assert (home.runs / "demo" / "state.json").exists()
    assert (home.datasets / "first" / "manifest.json").exists()
    with closing(Store.open(home.traces)) as store:
        assert store.check().problems == ()
        work, rollout = store.trajectory("run0000000000001"), store.trajectory("run0000000000000")
        assert (work.turns[0].reply.text, len(work.calls)) == (TEXT, 1)
        assert (rollout.turns, rollout.calls, rollout.header.prompt) == ((), (), "p0")
        assert store.prompt_hashes([Purpose.GATE])
        assert store.unfinished() == []


def test_a_previous_model_is_kept(home: Home) -> None:
    furnish(home)
    registry = Registry(home)
    base, second = (registry.resolve(name).manifest.model_hash for name in ("base", "second"))
    registry.attach(second, gate=GateProof(accepted=True, against=base, verdict={}))
    registry.promote("second")
    sweep(home, budget_bytes=0, keep_days=0, dry_run=False)
    assert {entry.manifest.name: entry.state.value for entry in registry.list()} == {
        "base": "previous",
        "second": "current",
    }
    assert (home.datasets / "second" / "rows.jsonl.gz").exists()
    for name in (base, second):
        with pytest.raises(KoboshiError, match="is live|was live"):
            registry.remove(name)


def test_while_a_training_runs_its_files_stay(home: Home) -> None:
    furnish(home)
    with locked(home.run / "train.lock"):
        swept = sweep(home, budget_bytes=0, keep_days=30, dry_run=False)
    assert swept.training
    assert (home.runs / "0123456789abcdef" / "adapter" / "a.bin").exists()
    assert "third" in {entry.manifest.name for entry in Registry(home).list()}


def test_the_file_shrinks_by_the_texts_that_went(home: Home) -> None:
    with closing(Store.open(home.traces)) as store:
        for number in range(60):
            opened = header(f"p{number}", purpose=Purpose.ROLLOUT)
            record(store, f"run{number:013}", opened, text=f"{number} {TEXT * 20}")
    _age(home)
    before = home.traces.stat().st_size
    sweep(home, budget_bytes=0, keep_days=30, dry_run=False)
    assert home.traces.stat().st_size < before / 3


def test_the_verb_says_what_would_go(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(home)
    monkeypatch.setenv("KOBOSHI_HOME", str(home.root))
    told = json.loads(CliRunner().invoke(main, ["gc", "--dry-run", "--budget", "0", "--json"]).stdout)
    assert (told["fits"], told["dry_run"], told["items"][0]["path"]) == (False, True, "models/.tmp-half")
    shown = CliRunner().invoke(main, ["gc", "--budget", "5"])
    assert (shown.exit_code, "of a budget of 5.00 GB" in shown.stderr) == (0, True)
