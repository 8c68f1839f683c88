"""The architectures whose export was proved, and how a tensor of each is named and laid out in GGUF and in torch.

One table a family, read in both directions. A family that is not here is refused by name, and so is a file of a known
family that holds a tensor the table does not know (experts, biases, a vision tower): what is not mapped would be lost.

Layouts that differ: llama.cpp turns neighbouring pairs of a query or key head, torch its two halves, so the rows of
`attn_q` and `attn_k` of a llama are interleaved in GGUF; Gemma's norms are stored with the 1 added. A missing
`output.weight` means that the embedding is tied. `rope_freqs.weight` has no parameter in torch: it is copied, and
divides torch's frequencies.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from koboshi_tools import UsageError

from .gguf.read import GgufFile

ROPE_FREQUENCIES = "rope_freqs.weight"

_Kind = TypeVar("_Kind", bound=np.generic)
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_TORCH_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LINEARS = {
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
_NORMS = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
_GEMMA_NORMS = {
    "attn_norm.weight": "input_layernorm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
_HEAD_NORMS = {
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
}
_BIASES = {
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family: `layer` names a layer's tensors, GGUF to torch; the flags say how the layouts differ."""

    name: str
    layer: Mapping[str, str]
    pairs_interleaved: bool = False
    norms_plus_one: bool = False

    def torch_name(self, name: str) -> str | None:
        """Return the torch parameter of a GGUF tensor, or None where the table has none."""
        if found := _LAYER.fullmatch(name):
            part = self.layer.get(found[2])
            return part and f"model.layers.{found[1]}.{part}"
        return _OUTSIDE.get(name)

    def gguf_name(self, name: str) -> str | None:
        """Return the GGUF tensor of a torch parameter, or None where the table has none."""
        if found := _TORCH_LAYER.fullmatch(name):
            part = next((ours for ours, theirs in self.layer.items() if theirs == found[2]), None)
            return part and f"blk.{found[1]}.{part}"
        return next((ours for ours, theirs in _OUTSIDE.items() if theirs == name), None)

    def to_torch(self, name: str, weight: NDArray[_Kind], heads: int) -> NDArray[_Kind]:
        """Return a GGUF tensor laid out as torch has it; `heads` as `heads_of` says."""
        if self.pairs_interleaved and heads:
            return _swap_halves(weight, heads, to_gguf=False)
        return self._without_one(weight) if self._is_shifted(name) else weight

    def to_gguf(self, name: str, weight: NDArray[_Kind], heads: int) -> NDArray[_Kind]:
        """Return a torch weight, or the B matrix of its LoRA, laid out as GGUF has it; `name` is the GGUF name."""
        if self.pairs_interleaved and heads:
            return _swap_halves(weight, heads, to_gguf=True)
        return weight + np.ones(1, dtype=weight.dtype) if self._is_shifted(name) else weight

    def _is_shifted(self, name: str) -> bool:
        return self.norms_plus_one and name.endswith("norm.weight")

    @staticmethod
    def _without_one(weight: NDArray[_Kind]) -> NDArray[_Kind]:
        return weight - np.ones(1, dtype=weight.dtype)


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        family.name: family
        for family in (
            Architecture("llama", _LINEARS | _NORMS, pairs_interleaved=True),
            Architecture("gemma3", _LINEARS | _GEMMA_NORMS | _HEAD_NORMS, norms_plus_one=True),
            Architecture("qwen2", _LINEARS | _NORMS | _BIASES),
            Architecture("qwen3", _LINEARS | _NORMS | _HEAD_NORMS),
        )
    }
)


def architecture_of(file: GgufFile) -> Architecture:
    """Return the family of a file. Raises UsageError for one whose export was not proved, or an unknown tensor."""
    found = ARCHITECTURES.get(file.architecture)
    if found is None:
        raise UsageError(
            f"{file.path} is a {file.architecture or 'nameless'} model, whose export was not proved",
            hint=f"it runs, but training is for {', '.join(ARCHITECTURES)}",
        )
    strange = [name for name in file.tensors if name != ROPE_FREQUENCIES and found.torch_name(name) is None]
    if strange:
        raise UsageError(
            f"{file.path} is a {found.name} model with {len(strange)} tensors of unknown use: {strange[0]}, ...",
            hint="it runs, but it cannot be trained: what is not understood would be lost in the export",
        )
    return found


def heads_of(file: GgufFile, name: str) -> int:
    """Return how many heads the rows of a query or key weight are, or 0 for any other tensor."""
    if name.endswith("attn_q.weight"):
        return int(file.number("attention.head_count"))
    if name.endswith("attn_k.weight"):
        return int(file.number("attention.head_count_kv", file.number("attention.head_count")))
    return 0


def layer_of(name: str) -> int | None:
    """Return the layer of a GGUF tensor, or None for one outside the layers."""
    found = _LAYER.fullmatch(name)
    return int(found[1]) if found else None


def _swap_halves(weight: NDArray[_Kind], heads: int, *, to_gguf: bool) -> NDArray[_Kind]:
    if heads < 1 or len(weight) % (2 * heads):
        raise UsageError(f"{len(weight)} rows are not {heads} heads of an even size")
    half = len(weight) // heads // 2
    split = (heads, 2, half) if to_gguf else (heads, half, 2)
    return weight.reshape(*split, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
