"""A second architecture walks the whole way: added, measured, trained a few steps, exported, proved equal, loaded."""

import json
from pathlib import Path

import pytest
from tests.trainer.pipeline_place import make_place, sevens

from koboshi_runtime.templates_init import write_tasks
from koboshi_trainer.pipeline import TrainResult

pytestmark = [pytest.mark.slow, pytest.mark.model]

# Six steps (a short fit goes over its rows twice), large enough for the update to outlive Q8_0's grid.
_STEPS = ("--epochs", "1", "--learning-rate", "0.003", "--batch-rows", "8")


def test_gemma3_is_added_measured_trained_exported_and_loaded(gemma3_gguf: Path, tmp_path: Path) -> None:
    place = make_place(tmp_path, gemma3_gguf, template=None)
    base = place.registry.current().manifest
    assert (base.architecture, base.profile.template, base.trainable) == ("gemma3", "gemma", True)
    tasks = tmp_path / "test.jsonl"
    write_tasks(tasks, sevens("test", 3))

    measured = json.loads(place.koboshi("eval", "--tasks", str(tasks), "--json").stdout)
    assert (measured["model"]["hash"], measured["tasks"]) == (base.model_hash, 3)

    trained = place.koboshi("train", *_STEPS, "--name", "taught", "--gate-tasks", "2", "--json")
    assert trained.returncode == 3, trained.stderr
    result = TrainResult.model_validate_json(trained.stdout)
    assert result.parity.reasons == ()
    assert result.parity.passed
    assert {file.kind for file in result.parity.files} == {"f16", "q8_0"}
    assert result.fit.optimizer_steps == 6
    assert place.registry.current().manifest.model_hash == base.model_hash

    exported = json.loads(place.koboshi("eval", "--tasks", str(tasks), "--model", "taught", "--json").stdout)
    assert exported["model"] == {"hash": result.model_hash, "name": "taught"}
    assert len(exported["results"]) == 3
