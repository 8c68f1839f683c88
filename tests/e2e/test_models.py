"""A real model comes into a home, with its facts, its profile and its row in the trace store."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from koboshi_runtime.cli import main
from koboshi_runtime.home import open_home
from koboshi_runtime.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.model]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_an_added_model_is_current_and_known_to_the_store(home: Path, smollm2_gguf: Path) -> None:
    done = CliRunner().invoke(main, ["models", "add", str(smollm2_gguf), "--name", "small", "--json"])
    shown = json.loads(done.stdout)
    expected = {"name": "small", "state": "current", "architecture": "llama", "quantization": "Q4_1", "trainable": True}
    assert {key: shown[key] for key in expected} == expected
    assert (shown["context_tokens"], shown["profile"]["template"]) == (8192, "chatml")
    rows = Store.read_only(open_home().traces).models()
    assert [(row.model_hash, row.name, row.state) for row in rows] == [(shown["model_hash"], "small", "current")]


def test_a_wrong_hash_keeps_a_model_out(home: Path, smollm2_gguf: Path) -> None:
    done = CliRunner().invoke(main, ["models", "add", str(smollm2_gguf), "--sha256", "0" * 64])
    assert (done.exit_code, list(home.glob("models/*/model.gguf"))) == (1, [])


def test_a_file_that_is_no_model_is_wrong_usage(home: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("GGUF, it says", encoding="utf-8")
    done = CliRunner().invoke(main, ["models", "add", "text.gguf"])
    assert (done.exit_code, list(home.glob("models/*/model.gguf"))) == (2, [])
