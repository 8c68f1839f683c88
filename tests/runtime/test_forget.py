"""A run that was forgotten is in no file of the home, and the models that learnt from it are named."""

import asyncio
import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.run_makers import calls, runner, task
from tests.runtime.store_samples import header, record
from tests.runtime.trace_samples import trajectory

from koboshi_runtime.cli import main
from koboshi_runtime.files import locked
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.house.forget import Forgotten, forget
from koboshi_runtime.ids import prompt_hash, utc_now
from koboshi_runtime.interchange.importing import import_runs
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.models.manifest import ModelManifest, Parents
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.records import Split
from koboshi_runtime.store import Store
from koboshi_runtime.store.codecs import unpack_ids
from koboshi_tools import KoboshiError, UsageError, hash_bytes

WORDS = ("Plumtreeville", "Quincewords", "Raspberrykey", "Sorrelanswer", "Tansythought")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with closing(Store.open(home.traces)) as opened:
        yield opened


def play(folder: Path, store: Store, *words: str) -> str:
    """Make a run that says these words everywhere: in prompt, call, result, reply and answer."""
    place, talk, key, answer, thought = words
    replies = [f"<think>{thought}</think>{talk}\n" + calls(("look", {"key": key})), f"{answer}"]
    return asyncio.run(runner(folder, store, replies).run(task("t", prompt=f"Where is {place}?"))).run_id


def learn(home: Home, run_id: str, name: str = "tuned") -> str:
    """Put a dataset with the run, a model that was trained on it and a report that quotes it into the home."""
    folder = home.datasets / name
    folder.mkdir()
    dataset_hash = hash_bytes(name.encode())
    (folder / "manifest.json").write_text(
        json.dumps({"dataset_hash": dataset_hash, "run_ids": [run_id, "other"]}), encoding="utf-8"
    )
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(f"{run_id} {WORDS[0]}".encode()))
    file = home.root / f"{name}.gguf"
    file.write_bytes(name.encode())
    manifest = ModelManifest(
        model_hash=hash_bytes(name.encode()),
        name=name,
        architecture="llama",
        quantization="Q8_0",
        bytes=len(name),
        context_tokens=64,
        source="trained from base",
        created_at=utc_now(),
        profile=PromptProfile(template="chatml", tool_format="hermes"),
        parents=Parents(base=hash_bytes(b"base"), dataset=dataset_hash),
    )
    Registry(home).register(file, manifest)
    file.unlink()
    return manifest.model_hash


def found_in_files(home: Home, words: tuple[str, ...]) -> dict[str, str]:
    return {
        word: str(path.relative_to(home.root))
        for path in home.root.rglob("*")
        if path.is_file()
        for word in words
        if word.lower().encode() in path.read_bytes().lower()
    }


def test_no_word_of_a_forgotten_run_is_in_any_file_or_id_list(home: Home, store: Store, tmp_path: Path) -> None:
    others = [play(tmp_path, store, *(f"{word}x{number}" for word in WORDS)) for number in range(5)]
    run_id = play(tmp_path, store, *WORDS)
    others += [play(tmp_path, store, *(f"{word}y{number}" for word in WORDS)) for number in range(5)]
    learn(home, run_id)
    (home.reports / "night.md").write_text(f"asked: Where is {WORDS[0]}?", encoding="utf-8")
    (home.reports / "other.md").write_text("nothing of it", encoding="utf-8")
    (home.root / "traces.db.schema-5").write_bytes(home.traces.read_bytes() + WORDS[0].encode())
    only = tuple(f"{word}{end}" for word in WORDS for end in ("\n", '"', "?", "<", " ", "\x00"))
    assert found_in_files(home, WORDS)
    gone = forget(home, store, run_id, who="me", why="asked")
    assert gone.removed == ("traces.db", "datasets/tuned/rows.jsonl.gz", "reports/night.md", "traces.db.schema-5")
    assert found_in_files(home, only) == {}
    with closing(sqlite3.connect(f"file:{home.traces}?mode=ro", uri=True)) as db:
        lists = [row[0] for row in db.execute("SELECT reply_ids FROM steps UNION ALL SELECT ids FROM segments")]
        written = b"\n".join(bytes(token for token in unpack_ids(ids) if token < 256) for ids in lists)
        assert [word for word in only if word.encode() in written] == []
        assert db.execute("SELECT run_id, who, reason FROM forgotten").fetchall() == [(run_id, "me", "asked")]
    with closing(Store.open(home.traces)) as again:
        assert (again.check().problems, {row.run_id for row in again.runs()}) == ((), set(others))
        assert len(again.search(f"{WORDS[0]}y1")) == 1
        with pytest.raises(UsageError, match="No run"):
            again.trajectory(run_id)
    assert (home.datasets / "tuned" / "manifest.json").exists()
    assert (home.reports / "other.md").exists()


def test_the_split_of_a_forgotten_prompt_stays_by_its_hash(home: Home, store: Store) -> None:
    store.assign_split("Where?", Split.GATE)
    record(store, "a" * 16, header("Where?"))
    forget(home, store, "a" * 16, who="me")
    with closing(Store.open(home.traces)) as again, again.reading() as db:
        assert again.split_of("where?") is Split.GATE
        rows = db.execute("SELECT prompt FROM tasks WHERE prompt_hash = ?", (prompt_hash("Where?"),)).fetchall()
        assert [row["prompt"] for row in rows] == [""]


def test_the_models_that_learnt_from_it_are_named_also_after_they_were_removed(home: Home, store: Store) -> None:
    record(store, "a" * 16, header())
    current, old = learn(home, "a" * 16, "now"), learn(home, "a" * 16, "then")
    learn(home, "b" * 16, "never")
    entry = Registry(home).resolve("then")
    manifest = entry.manifest.model_dump(mode="json")
    store.record_model(old, name="then", profile=entry.manifest.profile, manifest=manifest, state="candidate")
    Registry(home).remove(old)
    gone = forget(home, store, "a" * 16, who="me")
    assert {(model.model_hash, model.state) for model in gone.learnt_by} == {(current, "current"), (old, "removed")}


def test_a_run_that_goes_on_is_not_forgotten(home: Home, store: Store) -> None:
    record(store, "a" * 16, header(), end=None)
    with pytest.raises(UsageError, match="has not ended"):
        forget(home, store, "a" * 16, who="me")


def test_while_a_training_runs_nothing_is_forgotten(home: Home, store: Store) -> None:
    record(store, "a" * 16, header())
    with locked(home.run / "train.lock"), pytest.raises(KoboshiError, match="a training runs"):
        forget(home, store, "a" * 16, who="me")
    assert store.trajectory("a" * 16).header.prompt


def test_what_was_forgotten_is_not_imported_again(home: Home, store: Store) -> None:
    run = trajectory().model_copy(update={"run_id": "a" * 16})
    import_runs(store, [run], source="file", project="p")
    forget(home, store, "a" * 16, who="me")
    with closing(Store.open(home.traces)) as again:
        assert import_runs(again, [run], source="file", project="p").forgotten == 1


def test_the_verb_asks_and_says_who_learnt_from_it(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record(store, "a" * 16, header())
    learn(home, "a" * 16)
    store.close()
    monkeypatch.setenv("KOBOSHI_HOME", str(home.root))
    no = CliRunner().invoke(main, ["traces", "forget", "aaaa"], input="n\n")
    assert (no.exit_code, no.stdout) == (130, "")
    yes = CliRunner().invoke(main, ["traces", "forget", "@last", "--yes"])
    assert (yes.exit_code, yes.stdout.strip()) == (0, "a" * 16)
    assert "learnt by tuned (" in yes.stderr
    assert "koboshi models rollback" in yes.stderr


def test_the_result_reads_back() -> None:
    empty = Forgotten(run_id="a", forks=(), removed=(), learnt_by=())
    assert Forgotten.model_validate_json(empty.model_dump_json()) == empty
