"""Ranking: which runs are compared, the derivatives of the formula, and that a model learns to prefer the good run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tests.trainer.test_fit import model
from tests.trainer.test_guards import EXAMPLES

from koboshi_trainer import lora
from koboshi_trainer.batches import MicroBatch, micro_batches
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.guards import measure_guards
from koboshi_trainer.methods import Assignment, Method, assign, loss_of
from koboshi_trainer.ranking import Ranking
from koboshi_trainer.rows import TokenRow


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def own(number: int, condition: str, task: str, *, weight: float = 1.0, length: int = 4) -> TokenRow:
    learn = (False,) + (True,) * (length - 1)
    row = TokenRow((1,), (number,) * length, learn, weight=weight, condition=condition, group=task)
    other = "failure" if condition == "success" else "success"
    return replace(row, twin=replace(row, ids=(*row.ids[:-1], 60), condition=other))


def _written_out(
    sums: torch.Tensor, start: torch.Tensor, micro: MicroBatch, pairs: list[tuple[int, int, float]]
) -> torch.Tensor:
    gains = -sums - start
    losses = ((b, share * torch.nn.functional.softplus(gains[b] - gains[g])) for g, b, share in pairs)
    return torch.stack([micro.rows[b].weight * loss for b, loss in losses]).sum()


def test_every_failed_run_is_held_against_each_success_of_its_task() -> None:
    some = [
        own(1, "success", "a"),
        own(2, "success", "a", weight=0.5),
        own(3, "failure", "a", weight=0.25),
        own(4, "failure", "b"),
        own(5, "success", "c"),
        replace(own(6, "success", "b"), twin=None),  # a demonstration
    ]
    (micro,) = micro_batches(some, max_tokens=500)
    at = {row.ids[0]: [n for n, one in enumerate(micro.rows) if one.ids[0] == row.ids[0]] for row in some}
    bad = at[3][1]
    torch.manual_seed(0)
    sums = (torch.rand(len(micro.rows), dtype=torch.float64) * 3).requires_grad_()
    start = -torch.rand(len(micro.rows), dtype=torch.float64) * 3
    pairs = [(at[1][0], bad, 0.5), (at[2][0], bad, 0.5)]
    wanted = 3.0 * _written_out(sums, start, micro, pairs)
    (derivatives,) = torch.autograd.grad(wanted, sums)
    ranking = Ranking(3.0, dict(zip(micro.rows, start.tolist(), strict=True)))
    values, slopes = ranking.of(micro, sums.detach())
    weights = torch.tensor([row.weight for row in micro.rows], dtype=torch.float64)
    assert float((values * weights).sum()) == pytest.approx(float(wanted.detach()))
    assert torch.allclose(slopes * weights, derivatives)
    assert float(derivatives.sum()) == pytest.approx(0)


def test_a_ranking_starts_from_what_the_model_says_without_its_adapter() -> None:
    base = model()
    adapter = lora.attach(base, r=4, alpha=8.0, seed=0)
    some = [own(1, "success", "a"), own(2, "failure", "a", length=7), own(3, "failure", "b")]
    plan = [tuple(micro_batches(some, max_tokens=500))]
    ranking = Ranking.begun(base, adapter, plan, 1.0, max_tokens=500)
    assert set(ranking.start) == {some[0], some[1].twin}
    for row, found in ranking.start.items():
        ids = torch.tensor([[*row.prefix_ids, *row.ids]])
        with adapter.off(), torch.no_grad():
            logs = base(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        assert found == pytest.approx(float(logs[torch.tensor([False, *row.learn])[1:]].sum()), abs=1e-3)
    lora.detach(base, adapter)


def test_model_prefers_the_good_run_by_it(tmp_path: Path) -> None:
    few = FitSettings(
        r=8, alpha=16, learning_rate=3e-2, optimizer_steps=6, batch_rows=8, dtype="float32", tasks_together=True
    )
    apart = []
    for ranking in (0.0, 8.0):
        settings = few.model_copy(update={"contrast": 0.1, "ranking": ranking})
        base, folder = model(), tmp_path / str(ranking)
        fit(base, assign(EXAMPLES, Method.NAT, Assignment(twins=True)), settings, folder, base="b")
        guards = measure_guards(base, lora.load_state(folder), EXAMPLES, settings)
        assert guards is not None
        apart.append(guards.losses["failure under success"] - guards.losses["success under success"])
    assert apart[1] > apart[0] + 0.5


def test_rows_of_a_task_stay_together_where_there_is_room() -> None:
    some = [own(n, "success", f"t{n % 3}", length=3 + n) for n in range(9)]
    whole = micro_batches(some, max_tokens=70, tasks_whole=True)
    assert len(whole) > 1
    places = [{row.group for row in micro.rows} for micro in whole]
    assert sum(map(len, places)) == 3
    assert sorted(row.ids for micro in whole for row in micro.rows) == sorted(
        one.ids for row in some for one in (row, row.twin) if one is not None
    )
    # One of four rows and their twins has no room there, and is parted again.
    assert all(micro.tokens <= 24 for micro in micro_batches(some, max_tokens=24, tasks_whole=True))


def test_only_a_fit_with_contrast_that_keeps_tasks_together_is_ranked() -> None:
    for wrong in ({"contrast": 1.0}, {"tasks_together": True}):
        with pytest.raises(ValidationError, match="ranking is for a fit with contrast and tasks_together"):
            FitSettings.model_validate({"ranking": 1.0} | wrong)
    ranks = FitSettings(ranking=1.0, contrast=1.0, tasks_together=True)
    assert loss_of(Method.NAT, ranks).ranking == 1.0
    assert loss_of(Method.SUCCESS, ranks) == FitSettings(tasks_together=True)
