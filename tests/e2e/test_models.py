"""A real model comes into a home, with its facts, its profile and its row in the trace store."""

import json
from pathlib import Path
from typing import Any

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


def test_what_a_model_is_needed_for_prints_json(home: Path, smollm2_gguf: Path, tmp_path: Path) -> None:
    def told(*given: str) -> Any:
        done = CliRunner().invoke(main, [*given, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    (tmp_path / "t.jsonl").write_text(
        '{"id": "t", "prompt": "2 + 2?", "checker": {"kind": "number", "answer": "4"}, "tools": ["calculator"]}\n'
        '{"id": "u", "prompt": "3 + 3?", "checker": {"kind": "number", "answer": "5003"}, "tools": ["calculator"]}\n',
        encoding="utf-8",
    )
    model = told("models", "add", str(smollm2_gguf), "--name", "small")["model_hash"]
    assert {told("models", *verb)["model_hash"] for verb in (("show",), ("show", "small"), ("promote", "small"))} == {
        model
    }
    assert told("eval", "--tasks", "t.jsonl")["model"]["hash"] == model
    ran = told("run", "How much is 17 * 23?")
    assert told("traces", "replay", ran["run_id"])["a"] == ran["run_id"]
    (failed,) = told("traces", "list", "--task", "u", "--outcome", "failure")
    blamed = told("traces", "blame", failed["run_id"], "--samples", "2")
    assert (blamed["run_id"], blamed["first_bad"], blamed["hopeless"]) == (failed["run_id"], None, True)
    assert [each["runs"] for each in blamed["tallies"]] == [2]
    refused = CliRunner().invoke(main, ["models", "rollback", "--json"])
    assert (refused.exit_code, json.loads(refused.stderr)["exit_code"]) == (1, 1)
