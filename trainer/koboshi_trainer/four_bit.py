"""Frozen weights in four bits, for a model that does not fit into memory else (QLoRA, Dettmers et al., 2305.14314).

NF4: each block of 64 weights is divided by its largest magnitude, and each quotient becomes the nearest of sixteen
values, quantiles of a normal distribution that hold 0 (their appendix E). With a float32 scale for each block that
makes 4.5 bits a weight. A layer is written out in full for each product and given back at once. Only training sees it:
the adapter is merged onto the 16-bit master, and parity and gate judge what comes of that.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

BLOCK = 64
_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


class FourBitLinear(nn.Module):
    """A linear layer, weights (out, in) in NF4 and frozen; the bias stays as it is."""

    codes: Tensor
    scales: Tensor

    def __init__(self, in_features: int, out_features: int, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = in_features, out_features, bias
        blocks = -(-in_features * out_features // BLOCK)
        self.register_buffer("codes", torch.empty(blocks * BLOCK // 2, dtype=torch.uint8))
        # The bits of float32 as integers: a module that is told to compute in bf16 leaves them whole.
        self.register_buffer("scales", torch.empty(blocks, dtype=torch.int32))

    def take(self, weight: Tensor) -> None:
        """Hold `weight` (out, in) from now on."""
        flat = weight.detach().float().flatten()
        blocks = pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
        scales = blocks.abs().amax(dim=1)
        quotients = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        values = torch.tensor(_VALUES, device=weight.device)
        codes = torch.bucketize(quotients, (values[1:] + values[:-1]) / 2).to(torch.uint8).view(-1, 2)
        self.codes, self.scales = codes[:, 0] << 4 | codes[:, 1], scales.view(torch.int32)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """Return the weights (out, in), written out."""
        values = torch.tensor(_VALUES, device=self.codes.device)
        pairs = torch.stack((self.codes >> 4, self.codes & 15), dim=1)
        blocks = values[pairs.flatten().int()].view(-1, BLOCK) * self.scales.view(torch.float32)[:, None]
        return blocks.flatten()[: self.in_features * self.out_features].view(self.out_features, -1).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in)."""
        return linear(x, self.dense(x.dtype), self.bias)


def make_four_bit(model: Any) -> dict[str, FourBitLinear]:
    """Put a layer of four bits, still empty, in the place of every linear layer of the body; return them by name."""
    head = model.get_output_embeddings()
    found = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head]
    made = {}
    for name, layer in found:
        bias = None if layer.bias is None else nn.Parameter(layer.bias, requires_grad=False)
        made[name] = FourBitLinear(layer.in_features, layer.out_features, bias)
        model.set_submodule(name, made[name])
    return made
