"""What the guards say of an adapter that learnt nothing, and of one that learnt its conditions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.test_fit import model

from koboshi_runtime.records import OutcomeLabel, Purpose
from koboshi_trainer import lora
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.guards import Guards, measure_guards
from koboshi_trainer.methods import Method, assign
from koboshi_trainer.rows import Example, Span

SETTINGS = FitSettings(r=8, alpha=16, learning_rate=3e-2, optimizer_steps=60, batch_rows=8, dtype="float32")


def _example(number: int, label: OutcomeLabel) -> Example:
    # What is written depends on the condition alone, so that only an adapter that read it can be right about both.
    answer = (40, 41, 42, 43) if label is OutcomeLabel.SUCCESS else (50, 51, 52, 53)
    return Example(
        run_id=f"{label}-{number}",
        task_hash=f"t{number}",
        project="sums",
        purpose=Purpose.ROLLOUT,
        label=label,
        failure_class=None if label is OutcomeLabel.SUCCESS else "wrong_answer",
        created_at="2026-01-01T00:00:00.000+00:00",
        model_hash="m",
        prefix_ids=(1, 2, 3),
        users={"": (4, 10 + number, 7), "success": (4, 10 + number, 5), "failure": (4, 10 + number, 6)},
        spans=(Span(ids=answer, learn=True),),
    )


EXAMPLES = [_example(n, label) for n in range(8) for label in (OutcomeLabel.SUCCESS, OutcomeLabel.FAILURE)]


def _guards(base: Any, folder: Path, settings: FitSettings) -> Guards:
    fit(base, assign(EXAMPLES, Method.NAT), settings, folder, base="b")
    found = measure_guards(base, lora.load_state(folder), EXAMPLES, settings)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_adapter_that_learnt_its_conditions_parts_the_losses_and_the_contrast_knows(tmp_path: Path) -> None:
    found = _guards(model(), tmp_path, SETTINGS)
    assert found.losses["failure under failure"] < 0.5 < 1.5 < found.losses["failure under success"]
    assert found.losses["success under success"] < 0.5 < 1.5 < found.losses["success under failure"]
    assert found.auroc["contrast"].value == 1.0
    assert found.auroc["contrast"].pairs == 8
    assert found.kl > 0.1
    assert found.agreement < 1.0


def test_adapter_that_learnt_nothing_is_told_as_such(tmp_path: Path) -> None:
    found = _guards(model(), tmp_path, SETTINGS.model_copy(update={"optimizer_steps": 1, "learning_rate": 1e-12}))
    assert found.losses == pytest.approx(found.losses_before, abs=1e-5)
    assert found.kl == pytest.approx(0.0, abs=1e-6)
    assert found.agreement == 1.0


def test_model_comes_back_as_it_was(tmp_path: Path) -> None:
    base = model()
    names = [name for name, _ in base.named_modules()]
    attention = base.config._attn_implementation
    _guards(base, tmp_path, SETTINGS.model_copy(update={"optimizer_steps": 2}))
    assert [name for name, _ in base.named_modules()] == names
    assert base.config._attn_implementation == attention


def test_without_held_out_examples_there_are_no_guards() -> None:
    assert measure_guards(model(), {}, (), SETTINGS) is None
