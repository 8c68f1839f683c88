"""Ranking: of two runs of one task, the one that succeeded is to be the likelier one when a success is asked for.

    -w log s(log p(good | success) - log p(bad | success))

for each failed run beside each success of its task, w divided by how many successes those are; s is the sigmoid,
log-probabilities are summed over the learnt ids. It is DPO's comparison without a reference model (CPO, Xu et al.,
arXiv 2401.08417), beside the likelihood that keeps the good runs likely. Where both runs are alike their gradients
cancel, so that it falls on what they do from their first difference on; it ends where the good run is far likelier.
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import softplus

from koboshi_runtime.prompt import SUCCESS

from .batches import MicroBatch


def ranked(micro: MicroBatch, sums: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return what the rows' losses (rows,) and the slopes by their summed losses (rows,) gain by the ranking.

    `sums` (rows,) are the rows' summed losses. A pair counts with the failed row's weight, and stands in its place.
    """
    values, slopes = torch.zeros_like(sums), torch.zeros_like(sums)
    for good, bad, share in _pairs(micro):
        margin = sums[good] - sums[bad]
        values[bad] += weight * share * softplus(margin)
        doubt = weight * share * torch.sigmoid(margin)
        slopes[bad] -= doubt
        # Each row's slope is multiplied by its own weight later.
        slopes[good] += doubt * micro.rows[bad].weight / micro.rows[good].weight
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
