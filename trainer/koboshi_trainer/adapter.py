"""A LoRA adapter as PEFT saves it, read into the names and the row order of GGUF.

Only what can be merged exactly is read: plain LoRA on linear layers. Anything else that PEFT can put into a folder
(DoRA, trained biases, whole modules, per-module ranks) is refused by name. The rows of B are put into GGUF's order
here, once, so that merge, adapter file and parity all see the same pair.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from koboshi_tools import KoboshiError

from .architectures import architecture_of, heads_of
from .gguf.read import GgufFile

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
# What must be off or empty for D = scale * B @ A to be the whole update.
_MUST_BE_EMPTY = ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias")


class AdapterError(KoboshiError):
    """An adapter folder that is not a plain LoRA of the model at hand."""


@dataclass(frozen=True, slots=True)
class LoraDelta:
    """One matrix's update, D = scale * b @ a: `a` is (rank, columns), `b` is (rows, rank), both float32."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start` to `stop` of D, float32."""
        update: NDArray[np.float32] = np.matmul(self.b[start:stop] * np.float32(self.scale), self.a)
        return update

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of D."""
        return len(self.b), self.a.shape[1]


def read_torch_adapter(folder: Path) -> dict[str, LoraDelta]:
    """Return the updates that PEFT saved in `folder`, by torch's parameter names. Raises AdapterError."""
    scale = _scale(folder / "adapter_config.json")
    weights = _read_weights(folder / "adapter_model.safetensors")
    modules = sorted({name.removesuffix(_A).removesuffix(_B) for name in weights})
    return {module.removeprefix(_PREFIX) + ".weight": _delta(module, weights, scale) for module in modules}


def read_adapter(folder: Path, model: GgufFile) -> dict[str, LoraDelta]:
    """Return the updates in `folder` by GGUF tensor, rows in GGUF's order. Raises AdapterError if they do not fit."""
    family = architecture_of(model)
    updates: dict[str, LoraDelta] = {}
    for parameter, delta in read_torch_adapter(folder).items():
        name = family.gguf_name(parameter)
        if name is None or name not in model.tensors:
            raise AdapterError(f"the adapter changes {parameter}, which {model.path} does not have")
        if delta.shape != model.tensors[name].shape:
            raise AdapterError(f"the adapter's {parameter} is {delta.shape}, the model's {model.tensors[name].shape}")
        updates[name] = LoraDelta(delta.a, family.to_gguf(name, delta.b, heads_of(model, name)), delta.scale)
    return updates


def _delta(module: str, weights: Mapping[str, NDArray[np.float32]], scale: float) -> LoraDelta:
    a, b = weights.get(module + _A), weights.get(module + _B)
    if a is None or b is None or a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
        raise AdapterError(f"{module} of the adapter is not a pair of LoRA matrices")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AdapterError(f"{module} of the adapter holds a number that is not finite")
    return LoraDelta(a, b, scale)


def _scale(path: Path) -> float:
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} was not read: {error}") from error
    odd = [key for key in _MUST_BE_EMPTY if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
        raise AdapterError(f"{path} is not a plain LoRA: {', '.join(odd) or config.get('peft_type')}")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)):
        raise AdapterError(f"{path} has r {rank!r} and lora_alpha {alpha!r}")
    return float(alpha / (np.sqrt(rank) if config.get("use_rslora") else rank))


def _read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        # Through torch, because numpy has no bfloat16.
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).float().numpy() for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} was not read: {error}") from error
