"""Run a causal model over one prefix and many continuations of it, without padding and without repeating the prefix.

The tokens lie flat in one sequence of batch 1: the prefix, then each row. Everything but attention works on single
positions, so it computes exactly the tokens that there are. Attention is ours: the prefix attends to itself, each row
to the prefix and to itself. Positions count on from the prefix in each row, so the numbers are those of the plain
forward of prefix + row; so are the gradients, which flow into the prefix from all rows.

It plugs into transformers' attention interface and therefore serves every architecture that uses it, including layers
with a sliding window. Architectures that soft-cap their attention scores are refused.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from koboshi_tools import KoboshiError

from .attention import attend
from .batches import MicroBatch

ATTENTION = "koboshi_shared_prefix"

# The matrix library builds a kernel for each new number of rows, which can cost as much as the forward pass that it
# serves. So the number of positions is rounded up: a fit meets some dozen shapes, not a new one in each micro-batch.
_STEP = 64


# A row joins a grid only if it fills this part of the grid's width: padding is computed as well.
_FILLED = 0.8


@dataclass(frozen=True, slots=True)
class Grid:
    """Where rows of about equal length lie: tokens `start` to `stop` of the flat row tokens.

    `padded` (rows, longest) points from a padded grid into those tokens, `flat` (their number,) back. Padding points at
    0; no real query sees it, because it stands behind every real key of its row.
    """

    start: int
    stop: int
    padded: Tensor
    flat: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies in the flat sequence: the prefix, the rows of all grids, and `spare` positions that mean nothing."""

    prefix: int
    spare: int
    grids: tuple[Grid, ...]


def body_hidden(model: Any, batch: MicroBatch) -> Tensor:
    """Return the last hidden states (tokens, hidden) of `batch`: prefix first, then each row's ids in order.

    `model` is a causal language model of transformers between `use_shared_prefix` and its undoing.
    """
    spare = -batch.tokens % _STEP
    ids = [*batch.prefix_ids, *(token for row in batch.rows for token in row.ids), *[0] * spare]
    start = len(batch.prefix_ids)
    positions = [*range(start), *(start + i for row in batch.rows for i in range(len(row.ids))), *[0] * spare]
    output = model.get_decoder()(
        input_ids=torch.tensor(ids).unsqueeze(0),
        position_ids=torch.tensor(positions).unsqueeze(0),
        use_cache=False,
        row_layout=_layout(start, [len(row.ids) for row in batch.rows], spare=spare),
    )
    hidden: Tensor = output.last_hidden_state[0, : batch.tokens]
    return hidden


def use_shared_prefix(model: Any) -> str:
    """Make `model` compute flat micro-batches; returns the attention it had, to be set back by `set_attention`."""
    before: str = model.config._attn_implementation
    AttentionInterface.register(ATTENTION, _attention)
    set_attention(model, ATTENTION)
    return before


def set_attention(model: Any, name: str) -> None:
    """Set the attention of `model` by its name in transformers."""
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise KoboshiError(
            f"{type(model).__name__} does not take another attention than {model.config._attn_implementation!r}",
            hint="This architecture cannot be trained here.",
        )


def _layout(prefix: int, lengths: list[int], *, spare: int) -> Layout:
    grids: list[Grid] = []
    first = at = 0
    for number in range(1, len(lengths) + 1):
        if number == len(lengths) or lengths[number] < _FILLED * lengths[first]:
            grids.append(_grid(at, lengths[first:number]))
            first, at = number, grids[-1].stop
    return Layout(prefix=prefix, spare=spare, grids=tuple(grids))


def _grid(start: int, lengths: list[int]) -> Grid:
    longest = max(lengths)
    padded = torch.zeros(len(lengths), longest, dtype=torch.long)
    flat = []
    at = 0
    for number, length in enumerate(lengths):
        padded[number, :length] = torch.arange(at, at + length)
        flat.append(torch.arange(number * longest, number * longest + length))
        at += length
    return Grid(start=start, stop=start + at, padded=padded, flat=torch.cat(flat))


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    row_layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend in a flat sequence; query (1, heads, tokens, size), key and value with the key-value heads."""
    if softcap is not None:
        raise KoboshiError(f"{type(module).__name__} caps its attention scores, which the trainer does not compute")
    start, window = row_layout.prefix, sliding_window
    before_query, before_key, before_value = (part[:, :, :start] for part in (query, key, value))
    parts = [_grouped(before_query, before_key, before_value, scaling, window)[0]] if start else []
    for grid in row_layout.grids:
        own = (part[0, :, start + grid.start : start + grid.stop] for part in (query, key, value))
        rows_query, rows_key, rows_value = (_ToGrid.apply(part, grid) for part in own)  # type: ignore[no-untyped-call]
        if start:
            rows_key, rows_value = (
                torch.cat([shared.expand(len(grid.padded), -1, -1, -1), rows], dim=2)
                for shared, rows in ((before_key, rows_key), (before_value, rows_value))
            )
        rows = _grouped(rows_query, rows_key, rows_value, scaling, window)
        parts.append(_FromGrid.apply(rows, grid))  # type: ignore[no-untyped-call]
    parts.append(query.new_zeros(row_layout.spare, *parts[0].shape[1:]))
    return torch.cat(parts).unsqueeze(0), None


class _ToGrid(torch.autograd.Function):
    """(heads, row tokens, size) -> (rows, heads, longest, size); padding has no gradient, so going back is a gather."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, grid: Grid) -> Tensor:
        ctx.grid = grid
        rows, longest = grid.padded.shape
        laid = flat.index_select(1, grid.padded.flatten())
        return laid.view(flat.shape[0], rows, longest, flat.shape[2]).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        laid = grads[0].transpose(0, 1).flatten(1, 2)
        return laid.index_select(1, ctx.grid.flat), None


class _FromGrid(torch.autograd.Function):
    """(rows, longest, heads, size) -> (row tokens, heads, size)."""

    @staticmethod
    def forward(ctx: Any, laid: Tensor, grid: Grid) -> Tensor:
        ctx.grid = grid
        return laid.flatten(0, 1).index_select(0, grid.flat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, longest = ctx.grid.padded.shape
        laid = grads[0].new_zeros(rows * longest, *grads[0].shape[1:])
        laid.index_copy_(0, ctx.grid.flat, grads[0])
        return laid.view(rows, longest, *grads[0].shape[1:]), None


def _grouped(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention whose last query sees the last key: (rows, heads, q, size) -> (rows, q, heads, size).

    The query heads of one key-value head are laid behind each other along the queries, so keys are never copied.
    """
    rows, heads, length, size = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    group = heads // key_heads
    mask = _mask(length, keys, window).repeat(group, 1)
    out = attend(
        query.reshape(rows * key_heads, group * length, size),
        key.reshape(rows * key_heads, keys, size),
        value.reshape(rows * key_heads, keys, size),
        mask,
        scaling,
    )
    return out.view(rows, heads, length, size).transpose(1, 2)


def _mask(length: int, keys: int, window: int | None) -> Tensor:
    distance = torch.arange(keys - length, keys).unsqueeze(1) - torch.arange(keys).unsqueeze(0)
    mask = distance >= 0
    return mask if window is None else mask & (distance < window)
