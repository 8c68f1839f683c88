"""Cross-entropy on the learnt ids only.

The output layer of a small model costs as much as a quarter of its body, and its logits more memory than all else. So
they are computed for the positions that carry a loss, a slice at a time, and each slice is turned into its gradient at
once: the logits are never kept.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from .batches import MicroBatch

_STEP = 64  # positions; rounded up with weight 0, as `shared_prefix` does and for its reason
_SLICE = 256  # positions; 256 x 49,152 fp32 logits are 50 MB, and larger slices were not faster


@dataclass(frozen=True, slots=True)
class Targets:
    """`at` (n,) the positions in the flat sequence whose next id is learnt, `ids` (n,) that id, `weights` (n,)."""

    at: Tensor
    ids: Tensor
    weights: Tensor


def targets_of(batch: MicroBatch) -> Targets:
    """Return what is learnt in the flat sequence of `batch`."""
    at: list[int] = []
    ids: list[int] = []
    weights: list[float] = []
    start = len(batch.prefix_ids)
    for row in batch.rows:
        learnt = [i for i, learn in enumerate(row.learn) if learn]
        at.extend(start + i - 1 for i in learnt)
        ids.extend(row.ids[i] for i in learnt)
        weights.extend([row.weight] * len(learnt))
        start += len(row.ids)
    return Targets(torch.tensor(at), torch.tensor(ids), torch.tensor(weights))


class _LearntLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.empty(len(ids))
        grad = torch.empty_like(hidden)
        for at in range(0, len(ids), _SLICE):
            part = slice(at, at + _SLICE)
            logs = log_softmax((hidden[part] @ head.T).float(), dim=-1)
            losses[part] = -logs.gather(1, ids[part, None]).squeeze(1)
            if ctx.needs_input_grad[0]:
                error = logs.exp_().scatter_add_(
                    1, ids[part, None], -torch.ones_like(ids[part, None], dtype=logs.dtype)
                )
                grad[part] = error.to(head.dtype) @ head
        grad.mul_(weights[:, None])
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None, None


def learnt_loss(hidden: Tensor, head: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the losses (natural logarithm), and the loss of each learnt id, unweighted (n,).

    `hidden` (tokens, size) are the body's last hidden states, `head` (vocabulary, size) the frozen output weights. Only
    the sum carries a gradient.
    """
    count = len(targets.at)
    spare = (0, -count % _STEP)
    learnt = hidden.index_select(0, pad(targets.at, spare))
    ids, weights = pad(targets.ids, spare), pad(targets.weights, spare)
    total, losses = _LearntLoss.apply(learnt, head, ids, weights)  # type: ignore[no-untyped-call]
    return total, losses[:count]


class _WeighedLater(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weights: Tensor) -> Tensor:
        ctx.weights = weights
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        return (grad * ctx.weights[:, None]).to(grad.dtype), None


def weighed_later(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return `hidden` (tokens, size), and ones (tokens,) that multiply its gradient: set them before it is taken.

    A loss whose weights follow from its own values is computed once that way instead of twice.
    """
    weights = torch.ones(len(hidden))
    found: Tensor = _WeighedLater.apply(hidden, weights)  # type: ignore[no-untyped-call]
    return found, weights


def row_sums(losses: Tensor, batch: MicroBatch) -> Tensor:
    """Return the summed loss of each row (rows,) from those of each learnt id."""
    return torch.stack([part.sum() for part in torch.split(losses, [row.learnt for row in batch.rows])])
