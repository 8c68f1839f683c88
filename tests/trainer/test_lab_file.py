"""An experiment file is read whole, and a wrong key is refused by its name and the nearest known one."""

from pathlib import Path

import pytest
from tests.trainer.lab_bench import EXPERIMENT

from koboshi_tools import UsageError
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.lab.file import Arm, ArmFit, Experiment, arm_fit, read_experiment
from koboshi_trainer.methods import Method


def _read(folder: Path, text: str) -> Experiment:
    path = folder / "e.toml"
    path.write_text(text, encoding="utf-8")
    return read_experiment(path)


def test_experiment_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = _read(tmp_path, EXPERIMENT)
    assert [arm.name for arm in found.arm] == ["base", "seeded", "success", "nat"]
    assert found.way("greedy").temperature == 0
    assert found.way("best-of").samples == 3


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("samples = 3\ntemperature", "sample = 3\ntemperature", "pool.sample: unknown key", "samples"),
        ('reference = "success"', 'reference = "succes"', "no arm 'succes'", None),
        ('"wrong", "best-of"]', '"wrong", "best"]', "no decoding 'best'", None),
        ('model = "base"', 'model = "base"\nmethod = "nat"', "either method", None),
        ('steps_of = "nat"', 'steps_of = "base"', "takes its length from", None),
        ('steps_of = "nat"', "fit = { learning_rat = 1 }", "learning_rat: unknown key", "learning_rate"),
        ("samples = 3\ntemperature = 1.0\ntasks", "samples = 3\ntasks", "temperature above 0", None),
        ('{ file = "test.jsonl" }', '{ file = "t", pack = "shop" }', "one of pack, file", None),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, old: str, new: str, message: str, hint: str | None) -> None:
    assert old in EXPERIMENT
    with pytest.raises(UsageError, match=message) as refused:
        _read(tmp_path, EXPERIMENT.replace(old, new))
    if hint:
        assert f"{hint!r}" in str(refused.value.hint)


def test_arms_own_bound_replaces_the_common_one() -> None:
    common = ArmFit(settings=FitSettings(optimizer_steps=60, learning_rate=1e-4))
    arm = Arm(name="a", method=Method.SUCCESS, fit={"epochs": 2.0, "replay": 0.2, "failure_weight": 0.5})
    own = arm_fit(common, arm)
    tabled = arm.model_copy(update={"fit": {"replay": 0.2, "failure_weight": 0.5, "settings": {"epochs": 2.0}}})
    assert arm_fit(common, tabled) == own
    assert (own.settings.optimizer_steps, own.settings.epochs) == (None, 2.0)
    assert (own.settings.learning_rate, own.replay, own.failure_weight) == (1e-4, 0.2, 0.5)


def test_arm_without_contrast_takes_nothing_of_the_common_one() -> None:
    common = ArmFit(settings=FitSettings(contrast=3.0, contrast_from=0.5, failure_likelihood=0.0))
    own = arm_fit(common, Arm(name="a", method=Method.NAT, fit={"contrast": 0}))
    assert own.settings == FitSettings()
    assert arm_fit(common, Arm(name="b", method=Method.NAT)) == common


def test_hash_changes_with_any_number(tmp_path: Path) -> None:
    first = _read(tmp_path, EXPERIMENT)
    second = _read(tmp_path, EXPERIMENT.replace("epochs = 3", "epochs = 2"))
    assert first.hash == _read(tmp_path, EXPERIMENT + "\n# a remark\n").hash != second.hash


_KEPT = sorted((Path(__file__).parents[2] / "docs" / "lab").glob("*.toml"))


@pytest.mark.parametrize("path", _KEPT, ids=lambda path: path.stem)
def test_experiments_that_are_kept_can_be_read(path: Path) -> None:
    found = read_experiment(path)
    assert found.name == path.stem
    assert any(evaluation.primary for evaluation in found.evaluation)


def test_arm_takes_its_length_in_one_way_only() -> None:
    with pytest.raises(ValueError, match="either steps_of or epochs_of"):
        Arm(name="a", method=Method.SUCCESS, steps_of="b", epochs_of="b")
