"""KTO and APO-zero: learning from judged runs that come in no pairs, the rivals of learning under conditions.

Every row is pushed towards or away from the model that the fit starts from, by how its log-probability, summed over the
learnt ids, has changed since: r = log p(row) - log p_start(row).

    kto                  good: 1 - s(b (r - z))    bad: 1 - s(b (z - r))    Ethayarajh et al., 2402.01306, eq. 7
    apo_zero_unpaired    good: 1 - s(b r)          bad: s(b r)              D'Oosterlinck et al., 2408.06266

s is the sigmoid, b is `beta`, z an estimate of KL(model ‖ start): the mean of r over prompts with another row's
completion behind them, the next one of the optimizer batch, never below 0 and without a gradient. The numbers are
those of TRL 1.16 (tests/trainer/test_preference.py). TRL's own trainer takes text and one completion, not ids with
tool results between the learnt ones, so it cannot be given our rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

import torch
from torch import Tensor

from koboshi_tools import UsageError

from .batches import MicroBatch, OptimizerBatch
from .fit_values import PreferenceSettings
from .lora import Adapter
from .loss import Targets, learnt_loss, row_sums, targets_of, weighed_later
from .rows import TokenRow
from .scores import log_probs

GOOD = "success"
"""The label of the rows that are wanted; any other is unwanted."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The loss of each row (n,), and its derivative by the row's summed log-probability (n,)."""

    losses: Tensor
    slopes: Tensor


def judge(ratios: Tensor, good: Tensor, kl: float, settings: PreferenceSettings) -> Judged:
    """Return loss and slope of rows with log-ratios `ratios` (n,), `good` (n,) saying which are wanted."""
    sign = torch.where(good, 1.0, -1.0)
    match settings.kind:
        case "kto":
            wanted = torch.sigmoid(settings.beta * sign * (ratios - kl))
        case "apo_zero_unpaired":
            wanted = torch.sigmoid(settings.beta * sign * ratios)
        case _:
            assert_never(settings.kind)
    weight = torch.where(good, settings.good_weight, settings.bad_weight)
    return Judged(weight * (1 - wanted), -weight * settings.beta * sign * wanted * (1 - wanted))


class Preference:
    """The objective of a fit: made before the first optimizer step, while the adapter is still zero."""

    def __init__(
        self,
        model: Any,
        adapter: Adapter,
        plan: Sequence[OptimizerBatch],
        settings: PreferenceSettings,
        *,
        max_tokens: int,
    ) -> None:
        rows = list(dict.fromkeys(row for batch in plan for micro in batch for row in micro.rows))
        if len({row.label == GOOD for row in rows}) == 1:
            raise UsageError(f"{settings.kind} needs successes and failures, and all {len(rows)} rows are of one kind")
        self._model, self._adapter, self._settings, self._max_tokens = model, adapter, settings, max_tokens
        with adapter.off():
            self._start = dict(zip(rows, log_probs(model, rows, max_tokens=max_tokens), strict=True))
        self._kl = 0.0

    def begin(self, batch: OptimizerBatch) -> float:
        """Take up an optimizer batch, and return what its losses are divided by: its rows."""
        rows = [row for micro in batch for row in micro.rows]
        self._kl = self._estimate_kl(rows) if self._settings.kind == "kto" and len(rows) > 1 else 0.0
        return float(len(rows))

    def loss(self, micro: MicroBatch, hidden: Tensor, head: Tensor) -> tuple[Tensor, float]:
        """Return a sum whose gradient is that of the rows' losses, and the losses' own sum."""
        targets, (hidden, weights) = targets_of(micro), weighed_later(hidden)
        total, losses = learnt_loss(hidden, head, Targets(targets.at, targets.ids, torch.ones(len(targets.at))))
        ratios = -row_sums(losses, micro) - torch.tensor([self._start[row] for row in micro.rows])
        judged = judge(ratios, torch.tensor([row.label == GOOD for row in micro.rows]), self._kl, self._settings)
        own = torch.tensor([row.weight for row in micro.rows])
        # The sum that `learnt_loss` gives is of -log p, so a slope by log p enters with the other sign.
        learnt = torch.tensor([row.learnt for row in micro.rows])
        weights[targets.at] = torch.repeat_interleave(-own * judged.slopes, learnt)
        return total, float((own * judged.losses).sum())

    def _estimate_kl(self, rows: Sequence[TokenRow]) -> float:
        crossed = [_crossed(row, rows[(at + 1) % len(rows)]) for at, row in enumerate(rows)]
        now = log_probs(self._model, crossed, max_tokens=self._max_tokens)
        with self._adapter.off():
            start = log_probs(self._model, crossed, max_tokens=self._max_tokens)
        return max(0.0, sum(now) / len(now) - sum(start) / len(start))


def _crossed(asked: TokenRow, other: TokenRow) -> TokenRow:
    """Return what `asked` was asked, with what `other` answered."""
    start, answer = asked.learn.index(True), other.learn.index(True)
    return replace(asked, ids=asked.ids[:start] + other.ids[answer:], learn=asked.learn[:start] + other.learn[answer:])
