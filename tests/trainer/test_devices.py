"""Where a fit computes: all that it makes is made on its device, and a device that is not there is refused by name."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.trainer.test_contrast import with_twins
from tests.trainer.test_fit import SETTINGS, model, rows
from tests.trainer.test_guards import EXAMPLES

from koboshi_tools import UsageError
from koboshi_trainer import lora
from koboshi_trainer.devices import device_of, faster_dtype
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_values import FitSettings, PreferenceSettings
from koboshi_trainer.guards import measure_guards

FEW = SETTINGS.model_copy(update={"optimizer_steps": 3, "device": "cpu"})


@pytest.fixture
def nothing_by_default() -> Iterator[None]:
    """Tensors that are made without a word about their device hold nothing, and cannot be computed with."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize(
    "change",
    [{}, {"contrast": 1.0}, {"preference": PreferenceSettings()}],
    ids=["likelihood", "contrast", "preference"],
)
def test_everything_that_a_fit_makes_is_on_its_device(
    tmp_path: Path, nothing_by_default: None, change: dict[str, object]
) -> None:
    with torch.device("cpu"):
        base = model()
    settings = FEW.model_copy(update=change)
    some = with_twins(8) if settings.contrast else rows()
    report = fit(base, some, settings, tmp_path, base="b", held_out={"seen": rows()})
    guards = measure_guards(base, lora.load_state(tmp_path), EXAMPLES, settings)
    assert report.update_norm > 0
    assert guards is not None
    assert guards.agreement < 1
    assert {parameter.device.type for parameter in base.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "nowhere:1"])
def test_device_that_is_not_there_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"no device '{name}'") as error:
        fit(model(), rows(), FEW.model_copy(update={"device": name}), tmp_path, base="b")
    assert error.value.hint == "Leave it at auto."


def test_auto_is_the_processor_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("cpu")
    assert faster_dtype() in {torch.bfloat16, torch.float32}


def test_checkpointing_changes_no_number(tmp_path: Path) -> None:
    settings = FitSettings(r=4, alpha=8, optimizer_steps=3, batch_rows=4, dtype="float32", learning_rate=1e-2)
    kept = fit(model(), rows(4), settings, tmp_path / "kept", base="b")
    again = fit(model(), rows(4), settings.model_copy(update={"checkpointing": True}), tmp_path / "again", base="b")
    assert again.losses == pytest.approx(kept.losses, rel=1e-6)
    one, two = (lora.load_state(tmp_path / name) for name in ("kept", "again"))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
