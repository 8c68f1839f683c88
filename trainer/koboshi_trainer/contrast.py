"""Contrast: a run's likelihood under its condition, and how well its condition can be told from the run.

Beside the cross-entropy of a row stands the cross-entropy of its condition, by Bayes with equal priors, between its own
condition c and the other one c':

    -log p(row | c) - w log p(c | row),    p(c | row) = s(log p(row | c) - log p(row | c'))

s is the sigmoid, log-probabilities are summed over the learnt ids, w is the weight: a hybrid of generative and
discriminative learning (Lasserre et al., CVPR 2006). Cross-entropy alone hardly learns the condition, because good and
bad runs share nearly all their ids; the second term falls on those in which they differ. It takes a failure's ids out
of the success condition as well as putting them into its own, and it ends by itself: once a row's condition is told
from it with certainty, the term has no gradient. Beside it rows are learnt more slowly (decision 0078): `contrast_from`
lets it begin when they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from koboshi_runtime.prompt import SUCCESS
from koboshi_tools import UsageError

from .batches import MicroBatch, OptimizerBatch
from .loss import learnt_loss, row_sums, targets_of, weighed_later
from .ranking import Ranking


@dataclass(frozen=True, slots=True)
class Told:
    """The loss of each pair (n,), and its derivatives by the row's and by the twin's summed loss (n,)."""

    losses: Tensor
    row_slopes: Tensor
    twin_slopes: Tensor


def tell(own: Tensor, other: Tensor, weight: float, likelihood: Tensor) -> Told:
    """Return loss and slopes of rows whose summed losses are `own` (n,), their twins' `other` (n,).

    `likelihood` (n,) is the weight of each row's own loss, `weight` that of telling its condition.
    """
    doubt = weight * torch.sigmoid(own - other)
    losses = likelihood * own + weight * softplus(own - other)
    return Told(losses=losses, row_slopes=likelihood + doubt, twin_slopes=-doubt)


class Contrast:
    """The objective of a fit whose rows have twins; a row without one is learnt by its likelihood alone.

    `failure_likelihood` is the weight of the likelihood of a row under any condition but success, `ranking` what tells
    good runs from bad ones of the same task beside it. Raises UsageError if no row of the plan has a twin.
    """

    def __init__(
        self,
        plan: Sequence[OptimizerBatch],
        weight: float,
        failure_likelihood: float = 1.0,
        ranking: Ranking | None = None,
    ) -> None:
        if all(row.twin is None for batch in plan for micro in batch for row in micro.rows):
            raise UsageError(
                "contrast needs rows under both conditions, and there is none",
                hint="It is for own runs under the method nat, with conditions.",
            )
        self._weight, self._failure_likelihood, self._ranking = weight, failure_likelihood, ranking

    def begin(self, batch: OptimizerBatch) -> float:
        """Return the weight of all learnt ids, twins not counted."""
        rows = [row for micro in batch for row, own in zip(micro.rows, micro.own, strict=True) if own]
        return sum(row.weight * row.learnt for row in rows)

    def loss(self, micro: MicroBatch, hidden: Tensor, head: Tensor) -> tuple[Tensor, float]:
        """Return a sum whose gradient is that of the rows' and pairs' losses, and the losses' own sum."""
        targets, (hidden, weights) = targets_of(micro), weighed_later(hidden)
        total, losses = learnt_loss(hidden, head, targets)
        sums, slopes = row_sums(losses, micro), torch.ones(len(micro.rows))
        paired, twin = torch.tensor([row.twin is not None for row in micro.rows]), ~torch.tensor(micro.own)
        told = tell(sums[paired], sums[twin], self._weight, self._likelihood(micro))
        slopes[paired], slopes[twin] = told.row_slopes, told.twin_slopes
        values = sums.clone()
        values[paired], values[twin] = told.losses, 0.0
        if self._ranking is not None:
            more, steeper = self._ranking.of(micro, sums)
            values, slopes = values + more, slopes + steeper
        learnt = torch.tensor([row.learnt for row in micro.rows])
        weights[targets.at] = torch.repeat_interleave(slopes, learnt)
        return total, float((values * torch.tensor([row.weight for row in micro.rows])).sum())

    def _likelihood(self, micro: MicroBatch) -> Tensor:
        paired = [row for row in micro.rows if row.twin is not None]
        return torch.tensor([1.0 if row.condition == SUCCESS else self._failure_likelihood for row in paired])
