"""How likely rows are to a model as it stands: summed log-probabilities of their learnt ids, without a gradient."""

from collections.abc import Sequence
from typing import Any

import torch

from .batches import micro_batches
from .loss import learnt_loss, row_sums, targets_of
from .rows import TokenRow
from .shared_prefix import body_hidden


@torch.no_grad()
def log_probs(model: Any, rows: Sequence[TokenRow], *, max_tokens: int) -> list[float]:
    """Return log p of each row's learnt ids, in nats; `max_tokens` bounds the positions computed together."""
    head = model.get_output_embeddings().weight
    found: dict[int, float] = {}
    for micro in micro_batches(rows, max_tokens=max_tokens):
        _, losses = learnt_loss(body_hidden(model, micro), head, targets_of(micro))
        sums = (-row_sums(losses, micro)).tolist()
        found |= {id(row): value for row, value in zip(micro.rows, sums, strict=True)}
    return [found[id(row)] for row in rows]
