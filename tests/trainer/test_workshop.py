"""A lineage keeps its sentences: what is trained next is spoken to as the model whose runs it learns from."""

from pathlib import Path

import pytest
from tests.trainer.conftest import write_tiny_model

from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_tools import hash_file
from koboshi_trainer.conditions import CONDITION_SET
from koboshi_trainer.workshop import Workshop


def _add(home: Home, folder: Path, name: str, conditions: str | None) -> None:
    file = write_tiny_model(folder / f"{name}.gguf", "llama", seed=len(name))
    scratch = open_home(path=folder / f"home-{name}")
    known = add_model(scratch, str(file), AddSettings(name=name, template="mistral")).manifest
    profile = known.profile.model_copy(update={"conditions": conditions})
    Registry(home).register(file, known.model_copy(update={"profile": profile, "model_hash": hash_file(file)}))


@pytest.mark.parametrize(("current", "expected"), [(None, CONDITION_SET), ("plain", "plain")])
def test_a_base_is_spoken_to_as_the_live_model_is(tmp_path: Path, current: str | None, expected: str) -> None:
    home = open_home(path=tmp_path / "home")
    _add(home, tmp_path, "live", current)
    _add(home, tmp_path, "parent", None)
    (tmp_path / "koboshi.toml").touch()
    workshop = Workshop.open(home, tmp_path, Settings())
    try:
        assert workshop.registry.current().manifest.name == "live"
        assert workshop.learner_profile(workshop.registry.resolve("parent")).conditions == expected
    finally:
        workshop.close()
