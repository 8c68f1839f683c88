"""The contrast of conditions: its formula, its gradient, and that a model learns to tell its conditions by it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.trainer.test_fit import model, rows
from tests.trainer.test_guards import EXAMPLES
from torch.nn.functional import log_softmax

from koboshi_tools import UsageError
from koboshi_trainer import lora
from koboshi_trainer.batches import OptimizerBatch, micro_batches
from koboshi_trainer.contrast import Contrast, tell
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_values import FitSettings, PreferenceSettings
from koboshi_trainer.guards import measure_guards
from koboshi_trainer.methods import Assignment, Method, assign, loss_of
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.schedule import plan_fit
from koboshi_trainer.shared_prefix import body_hidden, set_attention, use_shared_prefix

OWN, OTHER = torch.tensor([2.0, 5.0, 1.0]), torch.tensor([2.0, 3.0, 9.0])
LIKELIHOOD = torch.tensor([1.0, 0.25, 1.0])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def with_twins(count: int) -> list[TokenRow]:
    return _with_twins(rows(count))


def _with_twins(some: list[TokenRow], weight: float = 1.0) -> list[TokenRow]:
    weighted = [replace(row, weight=weight) for row in some]
    return [replace(row, twin=replace(row, ids=(9, *row.ids[1:]))) for row in weighted]


def test_loss_is_that_of_the_row_and_of_its_condition_by_bayes() -> None:
    told = tell(OWN, OTHER, 0.5, LIKELIHOOD)
    posterior = torch.exp(-OWN) / (torch.exp(-OWN) + torch.exp(-OTHER))
    assert torch.allclose(told.losses, LIKELIHOOD * OWN - 0.5 * torch.log(posterior), atol=1e-6)


def test_slopes_are_the_derivatives_of_the_losses_and_end_where_the_condition_is_told() -> None:
    own, other = OWN.double().requires_grad_(), OTHER.double().requires_grad_()
    told = tell(own, other, 0.7, LIKELIHOOD.double())
    by_own, by_other = torch.autograd.grad(told.losses.sum(), (own, other))
    assert torch.allclose(told.row_slopes.detach(), by_own)
    assert torch.allclose(told.twin_slopes.detach(), by_other)
    assert float(told.twin_slopes[2].detach()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("likelihood", [1.0, 0.25, 0.0])
def test_gradient_equals_that_of_the_formula_written_out_for_whole_rows(likelihood: float) -> None:
    good = [replace(row, condition="success") for row in with_twins(2)]
    some, base = [*good, *_with_twins(rows(3)[2:], weight=0.25), rows(4)[3]], model()
    batch = tuple(micro_batches(some, max_tokens=60))
    assert len(batch) > 1
    attention = use_shared_prefix(base)
    adapter = lora.attach(base, r=4, alpha=8, seed=0)
    objective = Contrast([batch], 2.0, likelihood)
    with torch.no_grad():
        for number, parameter in enumerate(adapter.parameters()):
            torch.manual_seed(number)
            parameter.add_(torch.randn_like(parameter) * 0.05)
    weight, head, value = objective.begin(batch), base.get_output_embeddings().weight, 0.0
    for micro in batch:
        total, loss = objective.loss(micro, body_hidden(base, micro), head)
        (total / weight).backward()  # type: ignore[no-untyped-call]
        value += loss / weight
    found = [parameter.grad.clone() for parameter in adapter.parameters() if parameter.grad is not None]
    set_attention(base, attention)
    for parameter in adapter.parameters():
        parameter.grad = None
    terms = []
    for row in some:
        own = _summed_loss(base, row)
        pair = [-own, -_summed_loss(base, row.twin)] if row.twin is not None else [-own]
        part = likelihood if row.twin is not None and row.condition != "success" else 1.0
        terms.append(row.weight * (part * own - 2.0 * torch.log_softmax(torch.stack(pair), 0)[0]))
    plain = torch.stack(terms).sum() / weight
    plain.backward()  # type: ignore[no-untyped-call]
    assert value == pytest.approx(float(plain.detach()), rel=1e-4)
    assert weight == pytest.approx(sum(row.weight * row.learnt for row in some))
    wanted = [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]
    assert len(found) == len(wanted) > 0
    for one, two in zip(found, wanted, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def _summed_loss(base: Any, row: TokenRow) -> torch.Tensor:
    ids = torch.tensor([[*row.prefix_ids, *row.ids]])
    logs = log_softmax(base(input_ids=ids).logits[0].float(), dim=-1)
    start = len(row.prefix_ids)
    at = [start + number for number, learn in enumerate(row.learn) if learn]
    return -torch.stack([logs[position - 1, int(ids[0, position])] for position in at]).sum()


def test_contrast_tells_conditions_apart_that_likelihood_alone_has_not_yet_learnt(tmp_path: Path) -> None:
    few = FitSettings(r=8, alpha=16, learning_rate=3e-2, optimizer_steps=12, batch_rows=8, dtype="float32")
    apart = []
    for contrast in (0.0, 4.0):
        settings = few.model_copy(update={"contrast": contrast})
        made = assign(EXAMPLES, Method.NAT, Assignment(twins=contrast > 0))
        base, folder = model(), tmp_path / str(contrast)
        fit(base, made, settings, folder, base="b")
        guards = measure_guards(base, lora.load_state(folder), EXAMPLES, settings)
        assert guards is not None
        apart.append(guards.losses["failure under success"] - guards.losses["failure under failure"])
    assert apart[1] > apart[0] + 0.5


def test_twin_stands_behind_its_row_and_is_counted_in_no_report(tmp_path: Path) -> None:
    (micro,) = micro_batches(with_twins(3), max_tokens=512)
    assert micro.own == (True, False) * 3
    settings = FitSettings(r=4, alpha=8, optimizer_steps=2, batch_rows=4, dtype="float32", contrast=1.0)
    report = fit(model(), with_twins(4), settings, tmp_path, base="b")
    assert (report.rows, sum(report.label_mix.values())) == (4, 4)
    assert report.learnt_tokens == 2 * sum(row.learnt for row in rows(4))


def test_contrast_that_begins_later_learns_the_same_rows_without_twins_before() -> None:
    settings = FitSettings(batch_rows=2, epochs=3, contrast=1.0, contrast_from=0.5)
    plan = plan_fit(with_twins(4), settings)
    whole = plan_fit(with_twins(4), settings.model_copy(update={"contrast_from": 0.0}))
    assert [len([row for micro in batch for row in micro.rows]) for batch in plan] == [2, 2, 2, 4, 4, 4]
    assert plan[3:] == whole[3:]
    assert [_own_ids(batch) for batch in plan] == [_own_ids(batch) for batch in whole]
    only = plan_fit(with_twins(4), settings.model_copy(update={"optimizer_steps": 1, "contrast_from": 0.9}))
    assert any(row.twin for micro in only[0] for row in micro.rows)


def _own_ids(batch: OptimizerBatch) -> set[tuple[int, ...]]:
    return {row.ids for micro in batch for row, own in zip(micro.rows, micro.own, strict=True) if own}


def test_shared_prefix_does_not_change_the_loss(tmp_path: Path) -> None:
    settings = FitSettings(r=4, alpha=8, optimizer_steps=3, batch_rows=4, dtype="float32", contrast=1.0)
    losses = [
        fit(
            model(),
            with_twins(4),
            settings.model_copy(update={"share_prefix": shared}),
            tmp_path / str(shared),
            base="b",
        ).losses
        for shared in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_own_runs_have_a_twin_under_the_other_condition_and_demonstrations_none() -> None:
    shown = EXAMPLES[2].model_copy(update={"demonstration": True})
    made = assign([*EXAMPLES[:2], shown], Method.NAT, Assignment(twins=True))
    assert [(row.condition, row.twin and row.twin.condition) for row in made] == [
        ("success", "failure"),
        ("failure", "success"),
        ("success", None),
    ]
    assert all(row.twin is None or row.twin.learnt == row.learnt for row in made)


def test_rows_without_any_twin_are_refused(tmp_path: Path) -> None:
    settings = FitSettings(r=4, alpha=8, optimizer_steps=2, batch_rows=4, dtype="float32", contrast=1.0)
    with pytest.raises(UsageError, match="both conditions"):
        fit(model(), rows(4), settings, tmp_path, base="b")


def test_only_methods_with_conditions_are_contrasted_and_never_beside_a_preference() -> None:
    settings = FitSettings(contrast=1.0)
    assert loss_of(Method.NAT, settings).contrast == loss_of(Method.SHUFFLED, settings).contrast == 1.0
    assert [loss_of(method, settings).contrast for method in (Method.SUCCESS, Method.NUT, Method.KTO)] == [0, 0, 0]
    assert loss_of(Method.KTO, settings).preference == PreferenceSettings()
    with pytest.raises(ValidationError, match="either preference or contrast"):
        FitSettings(contrast=1.0, preference=PreferenceSettings())
    with pytest.raises(ValidationError, match="contrast_from is for a fit with contrast"):
        FitSettings(contrast_from=0.5)
    with pytest.raises(ValidationError, match="failure_likelihood is for a fit with contrast"):
        FitSettings(failure_likelihood=0.5)
    apart = loss_of(Method.SUCCESS, FitSettings(contrast=1.0, failure_likelihood=0.5))
    assert FitSettings.model_validate(apart.model_dump()) == FitSettings()
