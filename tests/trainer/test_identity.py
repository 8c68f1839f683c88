"""Hashes of settings: a later key counts only where it is used, and stored results are still those of their files."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from koboshi_tools import Frozen
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.identity import LATER, identity
from koboshi_trainer.lab.file import Decoding, read_experiment
from koboshi_trainer.lab.results import read_all

LAB = Path(__file__).parents[2] / "docs" / "lab"
STORED = sorted(folder for folder in LAB.iterdir() if folder.is_dir())


class Part(Frozen):
    old: int = 1
    new: Annotated[float, LATER] = Field(default=0.0, ge=0)


class Whole(Frozen):
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    named: dict[str, Part] = Field(default_factory=dict)


def test_later_key_is_left_out_at_its_default_and_counts_otherwise_however_deep_it_lies() -> None:
    some = Whole(parts=(Part(), Part(new=2.0)), named={"a": Part(old=3)})
    assert identity(some) == {
        "part": {"old": 1},
        "parts": [{"old": 1}, {"old": 1, "new": 2.0}],
        "named": {"a": {"old": 3}},
    }


def test_contrast_guidance_and_device_change_a_hash_only_where_they_are_used() -> None:
    for plain, used in (
        (FitSettings(), FitSettings(contrast=1.0)),
        (FitSettings(), FitSettings(checkpointing=True)),
        (Decoding(name="way"), Decoding(name="way", guidance=0.5)),
    ):
        (more,) = identity(used).keys() - identity(plain).keys()
        assert identity(used) == identity(plain) | {more: getattr(used, more)}


@pytest.mark.parametrize("folder", STORED, ids=[folder.name for folder in STORED])
def test_stored_results_are_of_the_experiment_file_beside_them(folder: Path) -> None:
    experiment, found = read_experiment(folder.with_suffix(".toml")), read_all(folder)
    named = [*(one.experiment for one in found.runs), *(one.experiment for one in found.fits)]
    assert len(named) > 1
    assert {*named, *(one.experiment for one in found.pools)} == {experiment.hash}
