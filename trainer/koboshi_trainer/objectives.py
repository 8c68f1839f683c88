"""What a fit makes smaller: the cross-entropy of the learnt ids, with or without a contrast, or a preference."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from .batches import MicroBatch, OptimizerBatch
from .contrast import Contrast
from .fit_values import FitSettings
from .lora import Adapter
from .loss import learnt_loss, targets_of
from .preference import Preference
from .ranking import Ranking


class Objective(Protocol):
    """What a fit makes smaller. `Likelihood` is the usual one, `Contrast` ours, `Preference` that of the rivals."""

    def begin(self, batch: OptimizerBatch) -> float:
        """Take up an optimizer batch, and return what its losses are divided by."""
        ...

    def loss(self, micro: MicroBatch, hidden: Tensor, head: Tensor) -> tuple[Tensor, float]:
        """Return a sum with the gradient of the rows' losses, and their value."""
        ...


class Likelihood:
    """Cross-entropy of the learnt ids, their weighted mean over the optimizer batch."""

    def begin(self, batch: OptimizerBatch) -> float:
        """Return the weight of all learnt ids."""
        return sum(row.weight * row.learnt for micro in batch for row in micro.rows)

    def loss(self, micro: MicroBatch, hidden: Tensor, head: Tensor) -> tuple[Tensor, float]:
        """Return the weighted sum of the losses, twice."""
        total, _ = learnt_loss(hidden, head, targets_of(micro))
        return total, float(total.detach())


def objective_of(model: Any, adapter: Adapter, plan: Sequence[OptimizerBatch], settings: FitSettings) -> Objective:
    """Return the objective that the settings name; `adapter` must not have learnt yet."""
    if settings.contrast:
        most = settings.micro_tokens
        ranking = Ranking.begun(model, adapter, plan, settings.ranking, max_tokens=most) if settings.ranking else None
        return Contrast(plan, settings.contrast, settings.failure_likelihood, ranking)
    if settings.preference is None:
        return Likelihood()
    return Preference(model, adapter, plan, settings.preference, max_tokens=settings.micro_tokens)
