"""`koboshi train`: its stages, its exit codes, and what it prints where."""

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import LEARNS_NOTHING, PipelinePlace, make_place

from koboshi_runtime.cli import main, verbs


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> PipelinePlace:
    """A place whose only training is one that its file cannot hold, which is refused."""
    root = tmp_path_factory.mktemp("place")
    return make_place(root, write_tiny_model(root / "base.gguf", "llama"))


def _koboshi(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_every_stage_says_in_one_line_what_it_does_and_shows_an_example() -> None:
    command = verbs.load("train")
    assert isinstance(command, click.Group)
    assert sorted(command.commands) == ["build", "export", "fit", "gate"]
    for found in (command, *command.commands.values()):
        assert found.help is not None
        assert found.help.count("Example: ") == 1
        assert all(option.help for option in found.params if isinstance(option, click.Option))


def test_outside_a_project_it_is_wrong_usage(own_home: Path) -> None:
    done = _koboshi("train")
    assert done.exit_code == 2
    assert "koboshi init" in done.stderr


def test_a_setting_out_of_range_is_wrong_usage(own_home: Path) -> None:
    assert _koboshi("train", "--epochs", "0").exit_code == 2
    assert _koboshi("train", "fit", "--method", "sgd").exit_code == 2


@pytest.mark.slow
def test_the_stages_print_where_their_results_lie(place: PipelinePlace) -> None:
    dataset, adapter = place.train("build"), place.train("fit", *LEARNS_NOTHING, "--json")
    assert (Path(dataset.stdout.strip()) / "manifest.json").is_file()
    assert "held out" in dataset.stderr
    made = json.loads(adapter.stdout)
    assert (Path(made["path"]) / "adapter_model.safetensors").is_file()
    assert made["dataset_hash"] == f"sha256:{Path(dataset.stdout.strip()).name}"
    assert "optimizer step 1 of 1" in adapter.stderr


@pytest.mark.slow
def test_a_refusal_leaves_with_3_and_its_result_on_stdout(place: PipelinePlace) -> None:
    refused = place.train("--json", *LEARNS_NOTHING, "gate")
    assert refused.returncode == 3
    result = json.loads(refused.stdout)
    assert (result["promoted"], result["verdict"]) == (False, None)
    error = json.loads(refused.stderr.splitlines()[-1])
    assert error["exit_code"] == 3
    assert "is not the model that was trained" in error["error"]


@pytest.mark.slow
def test_kto_without_a_failure_is_wrong_usage(place: PipelinePlace) -> None:
    path = place.project / "koboshi.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[train]", '[train]\nmethod = "kto"'), encoding="utf-8")
    done = place.train("fit")
    path.write_text(text, encoding="utf-8")
    assert done.returncode == 2
    assert re.search(r"kto needs successes and failures, and all \d+ rows are of one kind", done.stderr)
