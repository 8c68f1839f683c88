"""Norms and gated feed-forward parts of a layer, keeping for the gradient only what cannot be computed again cheaply.

Autograd keeps four tensors as wide as the feed-forward part, the activated gate and the product among them, and each
norm's input in fp32: half of all that a fit of a small model holds. Here the gate and the way up are kept, and each
norm's input in the model's own dtype; the rest is computed again, elementwise, when the gradient is taken. The numbers
forward are the layer's own, bit for bit. What is not of a known class is left as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .lora import LoraLinear, lora_gradients, lora_product

_FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3")
_GATED = frozenset(f"{family}MLP" for family in _FAMILIES)
_NORMS = frozenset(f"{family}RMSNorm" for family in _FAMILIES)


@contextmanager
def lean(model: nn.Module) -> Iterator[None]:
    """Let the layers of `model`, its adapter attached, keep less for as long as the context lasts."""
    forwards = {module: forward for module in model.modules() if (forward := _forward_of(module)) is not None}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


def _forward_of(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    name = type(module).__name__
    if name in _GATED and isinstance(module.down_proj, LoraLinear):
        return partial(_feed_forward, module)
    if name in _NORMS:
        return partial(_norm, module, gemma=name.startswith("Gemma"))
    return None


def _feed_forward(module: Any, x: Tensor) -> Tensor:
    down = module.down_proj
    gate, up = module.gate_proj(x), module.up_proj(x)
    product: Tensor = _GatedDown.apply(gate, up, module.act_fn, down, down.lora_a, down.lora_b)  # type: ignore[no-untyped-call]
    return product


class _GatedDown(torch.autograd.Function):
    """`down(activation(gate) * up)` with down's low-rank update; gate and up are (..., in)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: Any, down: LoraLinear, a: Tensor, b: Tensor) -> Tensor:
        out, low = lora_product((activation(gate) * up).flatten(0, -2), down.base, a, b, down.scale)
        ctx.save_for_backward(gate, up, a, b, low)
        ctx.activation, ctx.base, ctx.scale = activation, down.base, down.scale
        return out.view(*gate.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, a, b, low = ctx.saved_tensors
        (grad,) = grads
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            activated = ctx.activation(gate)
        x = (activated.detach() * up).flatten(0, -2)
        grad_x, grad_a, grad_b = lora_gradients(grad.flatten(0, -2), x, low, ctx.base, a, b, ctx.scale)
        assert grad_x is not None
        grad_x = grad_x.view_as(gate)
        (grad_gate,) = torch.autograd.grad(activated, gate, grad_x * up)
        return grad_gate, grad_x.mul_(activated.detach()), None, None, grad_a, grad_b


def _norm(module: Any, x: Tensor, *, gemma: bool) -> Tensor:
    eps = module.eps if gemma else module.variance_epsilon
    found: Tensor = _Norm.apply(x, module.weight, eps, gemma)  # type: ignore[no-untyped-call]
    return found


class _Norm(torch.autograd.Function):
    """`w x / rms(x)` (Zhang and Sennrich, arXiv 1910.07467), w frozen; Gemma's is 1 + w, multiplied in fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, scale)
        ctx.gemma = gemma
        even = wide * scale
        return (even * (1.0 + weight.float())).type_as(x) if gemma else weight * even.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        (grad,) = grads
        weighed = grad * (1.0 + weight.float()) if ctx.gemma else (grad * weight).float()
        even = x.float().mul_(scale)
        along = (weighed * even).mean(-1, keepdim=True)
        return weighed.sub_(even.mul_(along)).mul_(scale).to(x.dtype), None, None, None
