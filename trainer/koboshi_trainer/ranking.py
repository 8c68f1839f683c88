"""Ranking: asked for a success, the run that succeeded is to gain on the failed one of the same task.

    -w log s(gain(good) - gain(bad)),    gain(run) = log p(run | success) - log p_start(run | success)

for each failed run beside each success of its task, w divided by how many successes those are; s is the sigmoid,
log-probabilities are summed over the learnt ids, p_start is the model that the fit starts from. It is DPO's comparison
(Rafailov et al., arXiv 2305.18290, eq. 7, beta 1), beside the likelihood that keeps the good runs likely. Without the
start a run of fewer steps is the likelier one by its length alone: a run that stopped in time would be held against one
that did not as if nothing were left to learn, and one that rightly went on as if all were. Where both runs are alike
their gradients cancel, so that it falls on what they do from their first difference on; it ends where the good run has
gained far more.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from koboshi_runtime.prompt import SUCCESS

from .batches import MicroBatch, OptimizerBatch
from .lora import Adapter
from .rows import TokenRow
from .scores import log_probs


@dataclass(frozen=True, slots=True)
class Ranking:
    """The weight of the comparison, and log p_start of every row that is compared, in nats."""

    weight: float
    start: Mapping[TokenRow, float]

    @classmethod
    def begun(
        cls, model: Any, adapter: Adapter, plan: Sequence[OptimizerBatch], weight: float, *, max_tokens: int
    ) -> "Ranking":
        """Return the ranking of the runs in `plan`, read once by the model without its adapter."""
        micros = [micro for batch in plan for micro in batch]
        compared = (micro.rows[at] for micro in micros for good, bad, _ in _pairs(micro) for at in (good, bad))
        rows = list(dict.fromkeys(compared))
        alone = [replace(row, twin=None) for row in rows]
        with adapter.off():
            return cls(weight, dict(zip(rows, log_probs(model, alone, max_tokens=max_tokens), strict=True)))

    def of(self, micro: MicroBatch, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the rows' losses (rows,) and the slopes by their summed losses (rows,) gain by the ranking.

        `sums` (rows,) are the rows' summed losses. A pair counts with the failed row's weight, and stands in its place.
        """
        values, slopes = torch.zeros_like(sums), torch.zeros_like(sums)
        for good, bad, share in _pairs(micro):
            better, worse = micro.rows[good], micro.rows[bad]
            margin = (sums[good] + self.start[better]) - (sums[bad] + self.start[worse])
            values[bad] += self.weight * share * softplus(margin)
            doubt = self.weight * share * torch.sigmoid(margin)
            slopes[bad] -= doubt
            # Each row's slope is multiplied by its own weight later.
            slopes[good] += doubt * worse.weight / better.weight
        return values, slopes


def _pairs(micro: MicroBatch) -> Iterator[tuple[int, int, float]]:
    """Yield a success of each failed run's task, the failed run's twin under the success condition, and its share."""
    good: dict[str, list[int]] = defaultdict(list)
    bad: list[int] = []
    for number, (row, own) in enumerate(zip(micro.rows, micro.own, strict=True)):
        if row.condition != SUCCESS:
            continue
        if not own:
            bad.append(number)
        elif row.twin is not None:
            good[row.group].append(number)
    for number in bad:
        others = good[micro.rows[number].group]
        yield from ((other, number, 1 / len(others)) for other in others)
