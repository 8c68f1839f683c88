"""F18: thirty secrets in prompts, arguments, replies, outputs, labels and imported files: none is in any file of the
home, of an export or of a backup afterwards.

Ids of the scripted model are bytes, so that each reply comes in the smallest chunks there can be, and an id list is
read back as text by itself. The tool reads its output from a program that writes three bytes at a time.
"""

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.run_makers import TOOLS, Answers, calls, runner, task
from tests.runtime.secret_makers import ENVIRONMENT, PATTERNS, SECRETS, Secret, spellings

from koboshi_runtime import redact
from koboshi_runtime.approvals import approvals
from koboshi_runtime.cli import main
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource
from koboshi_runtime.store import Store
from koboshi_runtime.store.codecs import unpack_ids
from koboshi_tools import Tool, tool

_CHUNKED = 'printf %s "$1" | dd bs=3 status=none'


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    redact.use(PATTERNS, environment=ENVIRONMENT)
    yield open_home(path=tmp_path / "home")
    redact.use()


def _spilling() -> dict[str, Tool]:
    @tool(name="look")
    def look(key: str) -> str:
        """Print what a program prints, piece by piece."""
        chunks = []
        with subprocess.Popen(["sh", "-c", _CHUNKED, "sh", key], stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            while chunk := os.read(program.stdout.fileno(), 3):
                chunks.append(chunk)
        return b"".join(chunks).decode()

    return TOOLS | {"look": look}


async def _play(folder: Path, store: Store, secrets: Sequence[Secret] = SECRETS) -> list[str]:
    run_ids = []
    for number, planted in enumerate(secrets):
        text = planted.text
        replies = [calls(("look", {"key": text})), calls(("ask_note", {"text": text})), f"It is: {text}"]
        made = runner(folder, store, replies, tools=_spilling(), asker=Answers([True]) if number % 2 else None)
        run_ids.append((await made.run(task(f"t{number}", prompt=f"Use this: {text}"))).run_id)
    return run_ids


def _unredacted_ids(db: sqlite3.Connection) -> bytes:
    lists = [row[0] for row in db.execute("SELECT reply_ids FROM steps UNION ALL SELECT ids FROM segments")]
    return b"\n".join(bytes(token for token in unpack_ids(ids) if token < 256) for ids in lists)


def test_none_of_thirty_secrets_is_in_any_file_of_the_home_or_in_any_id_list(home: Home, tmp_path: Path) -> None:
    assert len(SECRETS) == 30
    with closing(Store.open(home.traces)) as store:
        run_ids = asyncio.run(_play(tmp_path, store))
        for run_id, planted in zip(run_ids, SECRETS, strict=True):
            why = Outcome(label=OutcomeLabel.SUCCESS, source=OutcomeSource.PERSON, who="me", rationale=planted.text)
            store.add_outcome(run_id, why)
            store.finish_job(store.start_job("import", {"line": planted.text}), "failed", {"error": planted.text})  # type: ignore[arg-type]
        assert _found(home.root) == {}
        with closing(sqlite3.connect(f"file:{home.traces}?mode=ro", uri=True)) as db:
            ids = _unredacted_ids(db)
        assert [planted.secret for planted in SECRETS if planted.secret.encode() in ids] == []
        assert b"Act." in ids
        assert all(store.trajectory(run_id).redacted for run_id in run_ids)
        assert len(approvals(store, answered=True)) == len(SECRETS) // 2


def _found(folder: Path) -> dict[str, str]:
    """Return the secrets that a raw search of every file finds, with the file."""
    return {
        planted.secret: str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        for planted in SECRETS
        if any(spelling.encode() in path.read_bytes() for spelling in spellings(planted.secret))
    }


_FORMATS = (("openai",), ("sharegpt",), ("atif",), ("trajectory",), ("otlp", "--content"))


def test_none_is_in_an_export_or_a_backup_and_none_comes_with_an_import(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _configured(tmp_path, monkeypatch)
    texts = [planted.text for planted in SECRETS]
    record = {"messages": [{"role": role, "content": text} for text in texts for role in ("user", "assistant")]}
    (tmp_path / "chats.jsonl").write_text(json.dumps(record), encoding="utf-8")
    _koboshi("traces", "import", str(tmp_path / "chats.jsonl"))
    with closing(Store.open(home.traces)) as store:
        asyncio.run(_play(tmp_path, store, SECRETS[::5]))
    exported = tmp_path / "exported"
    exported.mkdir()
    for form in _FORMATS:
        (exported / form[0]).write_text(_koboshi("traces", "export", "--format", *form), encoding="utf-8")
    _koboshi("backup", str(tmp_path / "copy"))
    assert {folder: _found(folder) for folder in (home.root, exported, tmp_path / "copy")} == {
        home.root: {},
        exported: {},
        tmp_path / "copy": {},
    }
    assert all((exported / form[0]).stat().st_size > 10_000 for form in _FORMATS)


def test_a_pattern_that_came_later_holds_for_what_is_exported(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redact.use()
    with closing(Store.open(home.traces)) as store:
        asyncio.run(_play(tmp_path, store, SECRETS[-1:]))
    assert SECRETS[-1].secret.encode() in home.traces.read_bytes()
    _configured(tmp_path, monkeypatch)
    for form in _FORMATS:
        written = _koboshi("traces", "export", "--format", *form)
        assert SECRETS[-1].secret not in written
        assert ", ".join(map(str, SECRETS[-1].secret.encode())) not in written
        assert "[redacted pattern]" in written


def _configured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBOSHI_HOME", str(folder / "home"))
    monkeypatch.setenv("KOBOSHI_REDACT__PATTERNS", PATTERNS[0])
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def _koboshi(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_what_is_searched_for_would_be_found(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact.Redactor, "text", lambda self, text: text)
    monkeypatch.setattr(redact.Redactor, "finds", lambda self, value: False)
    few = SECRETS[::7]
    with closing(Store.open(home.traces)) as store:
        asyncio.run(_play(tmp_path, store, few))
        data = home.traces.read_bytes() + home.traces.with_name("traces.db-wal").read_bytes()
        with closing(sqlite3.connect(f"file:{home.traces}?mode=ro", uri=True)) as db:
            ids = _unredacted_ids(db)
    assert [p.secret for p in few if not any(s.encode() in data for s in spellings(p.secret))] == []
    assert [p.secret for p in few if not any(s.encode() in ids for s in spellings(p.secret))] == []
