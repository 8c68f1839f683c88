"""KTO and APO-zero: the published numbers, their gradients, and what they do to a model."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.test_fit import model, rows
from torch.nn.functional import log_softmax

from koboshi_tools import UsageError
from koboshi_trainer import lora
from koboshi_trainer.batches import micro_batches
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_values import FitSettings, PreferenceSettings
from koboshi_trainer.preference import Preference, judge
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.shared_prefix import body_hidden, set_attention, use_shared_prefix

RATIOS = torch.tensor([0.5, -1.5, 4.0, -0.25])
GOOD = torch.tensor([True, True, False, False])


@pytest.mark.parametrize(
    ("settings", "kl", "losses"),
    [
        # 1 - sigmoid(0.1 (r - 0.3)) for the good, 1 - sigmoid(0.1 (0.3 - r)) for the bad.
        (PreferenceSettings(), 0.3, [0.49500017, 0.54487890, 0.59145898, 0.48625258]),
        (PreferenceSettings(kind="apo_zero_unpaired"), 0.3, [0.48750260, 0.53742985, 0.59868766, 0.49375033]),
    ],
    ids=["kto", "apo_zero_unpaired"],
)
def test_losses_are_the_published_ones(settings: PreferenceSettings, kl: float, losses: list[float]) -> None:
    assert judge(RATIOS, GOOD, kl, settings).losses.tolist() == pytest.approx(losses, abs=1e-6)


@pytest.mark.parametrize(("kind", "mean"), [("kto", 0.5293979049), ("apo_zero_unpaired", 0.5293425918)])
def test_mean_loss_is_the_number_that_trl_gives(kind: Any, mean: float) -> None:
    # KTOTrainer._compute_loss of TRL 1.16.0 on these log-ratios, labels and KL term, beta 0.1.
    assert float(judge(RATIOS, GOOD, 0.3, PreferenceSettings(kind=kind)).losses.mean()) == pytest.approx(mean, abs=1e-7)


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_slopes_are_the_derivatives_of_the_losses(kind: Any) -> None:
    settings = PreferenceSettings(kind=kind, beta=0.3, good_weight=0.7, bad_weight=1.3)
    ratios = RATIOS.double().requires_grad_()
    judged = judge(ratios, GOOD, 0.2, settings)
    (slopes,) = torch.autograd.grad(judged.losses.sum(), ratios)
    assert torch.allclose(slopes, judged.slopes.detach())


def test_gradient_equals_that_of_the_formula_written_out_for_whole_rows() -> None:
    settings = PreferenceSettings(beta=0.5, bad_weight=1.5)
    some, base = rows(4), model()
    batch = tuple(micro_batches(some, max_tokens=512))
    attention = use_shared_prefix(base)
    adapter = lora.attach(base, r=4, alpha=8, seed=0)
    objective = Preference(base, adapter, [batch], settings, max_tokens=512)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_b.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    divisor = objective.begin(batch)
    head = base.get_output_embeddings().weight
    value = 0.0
    for micro in batch:
        total, own = objective.loss(micro, body_hidden(base, micro), head)
        (total / divisor).backward()  # type: ignore[no-untyped-call]
        value += own / divisor
    ours = [parameter.grad.clone() for parameter in adapter.parameters() if parameter.grad is not None]
    adapter_parameters = list(adapter.parameters())
    for parameter in adapter_parameters:
        parameter.grad = None
    set_attention(base, attention)
    expected = _written_out(base, adapter, some, settings)
    expected.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    for mine, parameter in zip(ours, adapter_parameters, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(mine, parameter.grad, atol=1e-5)


def _written_out(base: Any, adapter: lora.Adapter, some: list[TokenRow], settings: PreferenceSettings) -> torch.Tensor:
    now = torch.stack([_log_prob(base, row.prefix_ids + row.ids, _mask(row)) for row in some])
    crossed = []
    for row, other in zip(some, [*some[1:], some[0]], strict=True):
        at, start = row.learn.index(True), other.learn.index(True)
        ids = row.prefix_ids + row.ids[:at] + other.ids[start:]
        crossed.append((ids, (False,) * (len(row.prefix_ids) + at) + other.learn[start:]))
    with torch.no_grad():
        across = torch.stack([_log_prob(base, ids, mask) for ids, mask in crossed])
        with adapter.off():
            before = torch.stack([_log_prob(base, row.prefix_ids + row.ids, _mask(row)) for row in some])
            across -= torch.stack([_log_prob(base, ids, mask) for ids, mask in crossed])
    kl = across.mean().clamp(min=0)
    assert kl > 0.1, "a term that is clamped proves nothing"
    losses = []
    for row, ratio in zip(some, now - before, strict=True):
        if row.label == "success":
            losses.append(1 - torch.sigmoid(settings.beta * (ratio - kl)))
        else:
            losses.append(settings.bad_weight * (1 - torch.sigmoid(settings.beta * (kl - ratio))))
    return torch.stack(losses).mean()


def _mask(row: TokenRow) -> tuple[bool, ...]:
    return (False,) * len(row.prefix_ids) + row.learn


def _log_prob(base: Any, ids: tuple[int, ...], learn: tuple[bool, ...]) -> torch.Tensor:
    logs = log_softmax(base(input_ids=torch.tensor([ids])).logits[0].float(), dim=-1)
    picked = [logs[at - 1, token] for at, (token, learnt) in enumerate(zip(ids, learn, strict=True)) if learnt]
    return torch.stack(picked).sum()


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_wanted_rows_become_likelier_and_unwanted_ones_less(tmp_path: Path, kind: Any) -> None:
    some = rows()
    held_out = {label: [row for row in some if row.label == label] for label in ("success", "failure")}
    settings = FitSettings(
        r=8,
        alpha=16,
        learning_rate=1e-2,
        optimizer_steps=20,
        batch_rows=8,
        dtype="float32",
        preference=PreferenceSettings(kind=kind),
    )
    report = fit(model(), some, settings, tmp_path, base="b", held_out=held_out)
    assert report.held_out_after["success"] < report.held_out_before["success"] - 0.1
    assert report.held_out_after["failure"] > report.held_out_before["failure"] + 0.1
    assert report.loss_last < report.loss_first
    assert math.isclose(report.losses[0], 0.5, abs_tol=1e-6)


def test_rows_of_one_kind_are_refused(tmp_path: Path) -> None:
    settings = FitSettings(r=8, alpha=16, dtype="float32", preference=PreferenceSettings())
    with pytest.raises(UsageError, match="all 4 rows are of one kind"):
        fit(model(), [row for row in rows() if row.label == "success"], settings, tmp_path, base="b")


def test_fit_that_was_cut_off_measures_from_the_same_start(tmp_path: Path) -> None:
    settings = FitSettings(
        r=8,
        alpha=16,
        learning_rate=1e-2,
        optimizer_steps=6,
        batch_rows=4,
        dtype="float32",
        checkpoint_every=2,
        preference=PreferenceSettings(),
    )
    whole = fit(model(), rows(), settings, tmp_path / "whole", base="b")

    def cut(told: Any) -> None:
        if told.optimizer_step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model(), rows(), settings, tmp_path / "cut", base="b", progress=cut)
    assert fit(model(), rows(), settings, tmp_path / "cut", base="b").losses == whole.losses
