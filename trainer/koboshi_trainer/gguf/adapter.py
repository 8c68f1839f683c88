"""Write a LoRA as the adapter file that llama.cpp applies to a base model while it runs.

It keeps the whole update on a base of any quantisation, at the cost of some milliseconds a token: the release form
where a merged file would not fit, and the quick canary.
"""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from koboshi_tools import UsageError

from ..adapter import LoraDelta
from .read import Scalar
from .write import TensorPlan, encode_pair, write_gguf


def write_adapter(
    out: Path, adapter: Mapping[str, LoraDelta], *, architecture: str, keys: Mapping[str, Scalar]
) -> None:
    """Write `adapter` to `out` as a GGUF of type adapter, float32, with `keys` of our own behind llama.cpp's.

    llama.cpp scales by alpha / rank of each tensor; one alpha serves the file, and a tensor whose scale differs from
    what that gives has the rest folded into its B.
    """
    if not adapter:
        raise UsageError("the adapter changes no tensor; there is nothing to write")
    first = next(iter(adapter.values()))
    alpha = first.scale * len(first.a)
    pairs: dict[str, Scalar] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
        **keys,
    }
    plans = [plan for name, delta in adapter.items() for plan in _plans(name, delta, alpha)]
    write_gguf(out, {key: encode_pair(key, value) for key, value in pairs.items()}, plans)


def _plans(name: str, delta: LoraDelta, alpha: float) -> list[TensorPlan]:
    kind = gguf.GGMLQuantizationType.F32
    rest = np.float32(delta.scale * len(delta.a) / alpha) if alpha else np.float32(delta.scale)
    b = delta.b * rest
    return [
        TensorPlan(f"{name}.lora_a", delta.a.shape, kind, lambda: [delta.a]),
        TensorPlan(f"{name}.lora_b", b.shape, kind, lambda: [b]),
    ]
