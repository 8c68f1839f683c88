"""Low-rank adapters (Hu et al., arXiv 2106.09685) on every linear layer of a frozen model's body.

`y = x W' + (alpha / r) (x A') B'`: A and B are kept in fp32 for the optimizer and computed with in the model's dtype.
The product and its gradient are written out by hand: the frozen weight takes no gradient, the low-rank part is added in
place, and nothing is kept for the backward pass but x and x A'. Files are in PEFT's format and load there.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.functional import linear

from koboshi_runtime.files import replace_file
from koboshi_tools import KoboshiError

from .four_bit import FourBitLinear

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PEFT_PREFIX = "base_model.model."


Base: TypeAlias = nn.Linear | FourBitLinear


def lora_product(x: Tensor, base: Base, a: Tensor, b: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the layer's (tokens, out) for x (tokens, in) with its update, and x A' (tokens, r)."""
    low = x @ a.to(x.dtype).T
    out = linear(x, _weight(base, x.dtype), base.bias)
    return out.addmm_(low, b.to(x.dtype).T, alpha=scale), low


def lora_gradients(
    grad: Tensor, x: Tensor, low: Tensor, base: Base, a: Tensor, b: Tensor, scale: float, *, of_x: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of x (None unless `of_x`), A and B, from that of what `lora_product` gives."""
    a, b = a.to(x.dtype), b.to(x.dtype)
    grad_low = (grad @ b).mul_(scale)
    grad_a = (grad_low.T @ x).float()
    grad_b = (grad.T @ low).float().mul_(scale)
    grad_x = (grad @ _weight(base, x.dtype)).addmm_(grad_low, a) if of_x else None
    return grad_x, grad_a, grad_b


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Base, a: Tensor, b: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        out, low = lora_product(flat, base, a, b, scale)
        ctx.save_for_backward(flat, a, b, low)
        ctx.base, ctx.scale = base, scale
        return out.view(*x.shape[:-1], base.out_features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, a, b, low = ctx.saved_tensors
        (grad,) = grads
        grad_x, grad_a, grad_b = lora_gradients(
            grad.reshape(-1, grad.shape[-1]), flat, low, ctx.base, a, b, ctx.scale, of_x=ctx.needs_input_grad[0]
        )
        if grad_x is not None:
            grad_x = grad_x.view(*grad.shape[:-1], ctx.base.in_features)
        return grad_x, None, grad_a, grad_b, None


def _weight(base: Base, dtype: torch.dtype) -> Tensor:
    return base.dense(dtype) if isinstance(base, FourBitLinear) else base.weight


class LoraLinear(nn.Module):
    """A frozen linear layer with its low-rank update; the update starts at zero."""

    def __init__(self, base: Base, *, r: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        device = next(base.buffers() if isinstance(base, FourBitLinear) else base.parameters()).device
        self.scale = alpha / r
        bound = 1 / math.sqrt(base.in_features)
        # Drawn on the processor, so that a seed gives the same start on every device.
        start = torch.empty(r, base.in_features, device="cpu").uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(start.to(device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, r, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in)."""
        product: Tensor = _LowRank.apply(x, self.base, self.lora_a, self.lora_b, self.scale)  # type: ignore[no-untyped-call]
        return product


@dataclass(frozen=True, slots=True)
class Adapter:
    """The update laid onto a model: its layers by the names that they have in the model."""

    r: int
    alpha: float
    layers: Mapping[str, LoraLinear]

    def parameters(self) -> Iterator[nn.Parameter]:
        """The fp32 parameters, in the order of the layers: A, then B."""
        for layer in self.layers.values():
            yield layer.lora_a
            yield layer.lora_b

    def state(self) -> dict[str, Tensor]:
        """A copy of all tensors under PEFT's names."""
        named = {}
        for name, layer in self.layers.items():
            named[f"{_PEFT_PREFIX}{name}.lora_A.weight"] = layer.lora_a.detach().clone()
            named[f"{_PEFT_PREFIX}{name}.lora_B.weight"] = layer.lora_b.detach().clone()
        return named

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set all tensors from `state`; raises KoboshiError if names or shapes are not those of this adapter."""
        own = {f"{_PEFT_PREFIX}{name}.lora_{part}.weight": tensor for name, part, tensor in self._parts()}
        shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        given = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if shapes != given:
            odd = sorted(set(shapes.items()) ^ set(given.items()))[0]
            raise KoboshiError(f"the adapter does not fit this model: {odd[0]} with shape {odd[1]} is on one side only")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let the model compute as if the update were zero, for as long as the context lasts."""
        scales = [(layer, layer.scale) for layer in self.layers.values()]
        try:
            for layer, _ in scales:
                layer.scale = 0.0
            yield
        finally:
            for layer, scale in scales:
                layer.scale = scale

    def _parts(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        for name, layer in self.layers.items():
            yield name, "A", layer.lora_a
            yield name, "B", layer.lora_b


def attach(model: Any, *, r: int, alpha: float, seed: int) -> Adapter:
    """Freeze `model` and put an adapter on every linear layer of its body (not on the output layer)."""
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, FourBitLinear)) and module is not head
    ]
    if not found:
        raise KoboshiError(f"{type(model).__name__} has no linear layer to adapt")
    generator = torch.Generator("cpu").manual_seed(seed)
    layers = {}
    for name, module in found:
        layers[name] = LoraLinear(module, r=r, alpha=alpha, generator=generator)
        model.set_submodule(name, layers[name])
    return Adapter(r=r, alpha=alpha, layers=layers)


def detach(model: Any, adapter: Adapter) -> None:
    """Take the adapter off again: the model is as it was before `attach`, its weights frozen."""
    for name, layer in adapter.layers.items():
        model.set_submodule(name, layer.base)


def save(state: Mapping[str, Tensor], folder: Path, *, r: int, alpha: float, base: str) -> None:
    """Write `state` durably in PEFT's format; `base` names the model that it belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(
        folder / WEIGHTS_FILE,
        to_bytes({name: tensor.cpu() for name, tensor in state.items()}, metadata={"format": "pt"}),
    )
    targets = sorted({name.removesuffix(".weight").split(".")[-2] for name in state})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
        "inference_mode": True,
    }
    replace_file(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def load_state(folder: Path) -> dict[str, Tensor]:
    """Read an adapter's tensors under PEFT's names, fp32."""
    loaded: dict[str, Tensor] = load_file(folder / WEIGHTS_FILE)
    return {name: tensor.float() for name, tensor in loaded.items()}
