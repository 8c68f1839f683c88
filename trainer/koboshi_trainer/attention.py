"""Masked attention by plain matrix products, its probabilities computed again for the gradient instead of kept.

`softmax(scale * Q K' + mask) V` (Vaswani et al., arXiv 1706.03762, eq. 1). On processors torch's fused kernel takes
several times as long as the products that it is made of, in bf16 above all, where only whole matrix products reach the
machine's own instructions. Scores are products in the inputs' dtype; the softmax sums in fp32.
"""

import math
from typing import Any

import torch
from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float | None = None) -> Tensor:
    """Return (batch, q, size) for query (batch, q, size), key and value (batch, k, size).

    `mask` is (q, k), True where a query may see a key; each query must see one. `scale` is 1 / sqrt(size) if not given.
    """
    hidden = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    found: Tensor = _Attend.apply(query, key, value, hidden, scale or query.shape[-1] ** -0.5)  # type: ignore[no-untyped-call]
    return found


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value, hidden)
        ctx.scale = scale
        return torch.bmm(_probabilities(query, key, hidden, scale), value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, hidden = ctx.saved_tensors
        (grad,) = grads
        probabilities = _probabilities(query, key, hidden, ctx.scale)
        grad_value = torch.bmm(probabilities.transpose(1, 2), grad)
        grad_probabilities = torch.bmm(grad, value.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_probabilities, probabilities, -1, query.dtype)
        grad_query = torch.bmm(grad_scores, key).mul_(ctx.scale)
        grad_key = torch.bmm(grad_scores.transpose(1, 2), query).mul_(ctx.scale)
        return grad_query, grad_key, grad_value, None, None


def _probabilities(query: Tensor, key: Tensor, hidden: Tensor, scale: float) -> Tensor:
    scores = torch.baddbmm(hidden.expand(len(query), -1, -1), query, key.transpose(1, 2), alpha=scale)
    return torch.softmax(scores, dim=-1)
