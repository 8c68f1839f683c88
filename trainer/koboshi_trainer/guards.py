"""Did it learn at all, and what did it cost: measured in torch on held-out rows, right behind a fit.

The same held-out trajectories are read under the right and under the wrong condition: if the two losses do not part,
the condition was not learnt, whatever the accuracy says. Agreement and KL divergence say how far the adapter took the
model from where it started; both are of the learnt positions under the success condition. The contrast's AUROC is over
pairs of one held-out task, beside those of length and plain log-probability, which it must beat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from koboshi_runtime.records import OutcomeLabel
from koboshi_tools import Frozen

from . import lora
from .auroc import Auroc, Scored, paired_auroc
from .batches import MicroBatch, micro_batches
from .devices import device_of, on
from .fit_values import FitSettings
from .loss import row_sums, targets_of
from .methods import FAILURE, SUCCESS
from .rows import Example, TokenRow, token_row
from .shared_prefix import body_hidden, set_attention, use_shared_prefix

_SLICE = 256  # positions whose logits are held at once, twice


class Guards(Frozen):
    """`losses` by "kind under condition", per learnt id; `contrast_weight` is that of the failure condition.

    `kl` is KL(trained ‖ before) in nats a position, `agreement` the share of positions with the same likeliest id.
    """

    losses: dict[str, float]
    losses_before: dict[str, float]
    kl: float
    agreement: float
    contrast_weight: float
    auroc: dict[str, Auroc]


def measure_guards(
    model: Any, state: Mapping[str, Tensor], examples: Sequence[Example], settings: FitSettings, *, weight: float = 0.9
) -> Guards | None:
    """Return the guards of an adapter's `state` on held-out `examples`, or None if there are none.

    `model` is what the adapter was fitted on; it comes back without it.
    """
    if not examples:
        return None
    rows = {name: [token_row(example, name) for example in examples] for name in (SUCCESS, FAILURE)}
    with on(model, device_of(settings.device)):
        attention = use_shared_prefix(model)
        adapter = lora.attach(model, r=settings.r, alpha=settings.alpha, seed=settings.seed)
        try:
            adapter.load(state)
            read = {name: _read(model, adapter, some, settings) for name, some in rows.items()}
        finally:
            lora.detach(model, adapter)
            set_attention(model, attention)
    after = {name: found.after for name, found in read.items()}
    return Guards(
        losses=_means(examples, after),
        losses_before=_means(examples, {name: found.before for name, found in read.items()}),
        kl=read[SUCCESS].kl,
        agreement=read[SUCCESS].agreement,
        contrast_weight=weight,
        auroc=_aurocs(examples, after, weight),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """Each row's summed loss and learnt ids before and after, in the order of the rows, and how far the two are."""

    before: list[tuple[float, int]]
    after: list[tuple[float, int]]
    kl: float
    agreement: float


@torch.no_grad()
def _read(model: Any, adapter: lora.Adapter, rows: Sequence[TokenRow], settings: FitSettings) -> _Read:
    head = model.get_output_embeddings().weight
    found: dict[int, tuple[float, float]] = {}
    divergence, same, count = 0.0, 0, 0
    for micro in micro_batches(rows, max_tokens=settings.micro_tokens):
        after = _learnt_hidden(model, micro)
        with adapter.off():
            before = _learnt_hidden(model, micro)
        ids, losses = targets_of(micro).ids[:, None], torch.empty(2, len(after))
        for start in range(0, len(after), _SLICE):
            part = slice(start, start + _SLICE)
            old, new = (log_softmax((hidden[part] @ head.T).float(), dim=-1) for hidden in (before, after))
            losses[:, part] = -torch.cat([logs.gather(1, ids[part]) for logs in (old, new)], dim=1).T
            divergence += float((new.exp() * (new - old)).sum())
            same += int((new.argmax(-1) == old.argmax(-1)).sum())
        old_sums, new_sums = (row_sums(one, micro).tolist() for one in losses)
        found |= {id(row): sums for row, sums in zip(micro.rows, zip(old_sums, new_sums, strict=True), strict=True)}
        count += len(after)
    return _Read(
        before=[(found[id(row)][0], row.learnt) for row in rows],
        after=[(found[id(row)][1], row.learnt) for row in rows],
        kl=divergence / count,
        agreement=same / count,
    )


def _learnt_hidden(model: Any, micro: MicroBatch) -> Tensor:
    return body_hidden(model, micro).index_select(0, targets_of(micro).at)


def _means(examples: Sequence[Example], losses: Mapping[str, Sequence[tuple[float, int]]]) -> dict[str, float]:
    found = {}
    for label in (OutcomeLabel.SUCCESS, OutcomeLabel.FAILURE):
        for condition, all_losses in losses.items():
            own = [one for example, one in zip(examples, all_losses, strict=True) if example.label is label]
            if own:
                found[f"{label} under {condition}"] = sum(loss for loss, _ in own) / sum(count for _, count in own)
    return found


def _aurocs(
    examples: Sequence[Example], losses: Mapping[str, Sequence[tuple[float, int]]], weight: float
) -> dict[str, Auroc]:
    def of(score: Sequence[float]) -> Auroc:
        return paired_auroc(
            [
                Scored(example.task_hash, example.label is OutcomeLabel.SUCCESS, value)
                for example, value in zip(examples, score, strict=True)
            ]
        )

    right, wrong = ([-loss / count for loss, count in losses[name]] for name in (SUCCESS, FAILURE))
    return {
        "contrast": of([good - weight * bad for good, bad in zip(right, wrong, strict=True)]),
        "log-probability": of(right),
        "shortness": of([-float(count) for _, count in losses[SUCCESS]]),
    }
