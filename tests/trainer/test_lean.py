from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from koboshi_trainer import lora
from koboshi_trainer.lean import lean

_SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 160,
    "vocab_size": 97,
}
_CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**_SIZES),
    "mistral": lambda: transformers.MistralConfig(**_SIZES),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZES),
    "qwen3": lambda: transformers.Qwen3Config(**_SIZES),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_SIZES, query_pre_attn_scalar=8),
}
_IDS = torch.arange(40).unsqueeze(0)


def _adapted(family: str, dtype: torch.dtype) -> tuple[Any, lora.Adapter]:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(_CONFIGS[family](), attn_implementation="sdpa").float()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            # Weights of norms are all alike in a new model, and a norm that ignored them would not be seen.
            if type(module).__name__.endswith("RMSNorm"):
                module.weight.uniform_(0.5, 1.5, generator=generator)
        adapter = lora.attach(model.to(dtype), r=4, alpha=8, seed=1)
        for parameter in adapter.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return model, adapter


def _loss(model: Any) -> Tensor:
    return model(input_ids=_IDS).logits.float().square().mean()  # type: ignore[no-any-return]


def _gradients(model: Any, adapter: lora.Adapter) -> list[Tensor]:
    return list(torch.autograd.grad(_loss(model), list(adapter.parameters())))


@pytest.mark.parametrize("family", _CONFIGS)
def test_the_layers_compute_the_same_and_have_the_same_gradients(family: str) -> None:
    model, adapter = _adapted(family, torch.float32)
    with torch.no_grad():
        before = model(input_ids=_IDS).logits
    wanted = _gradients(model, adapter)
    with lean(model):
        with torch.no_grad():
            assert torch.equal(model(input_ids=_IDS).logits, before)
        found = _gradients(model, adapter)
    for gradient, own in zip(found, wanted, strict=True):
        assert float(own.norm()) > 0
        torch.testing.assert_close(gradient, own, rtol=1e-4, atol=1e-6)


def test_bf16_gradients_are_as_near_to_those_of_fp32_as_before() -> None:
    exact = torch.cat([gradient.flatten() for gradient in _gradients(*_adapted("llama", torch.float32))])

    def off(model: Any, adapter: lora.Adapter) -> float:
        found = torch.cat([gradient.flatten() for gradient in _gradients(model, adapter)])
        return float((found - exact).norm() / exact.norm())

    model, adapter = _adapted("llama", torch.bfloat16)
    plain = off(model, adapter)
    assert plain < 0.1
    with lean(model):
        assert off(model, adapter) < 1.2 * plain


@pytest.mark.parametrize("family", _CONFIGS)
def test_much_less_is_kept_for_the_gradient(family: str) -> None:
    model, _ = _adapted(family, torch.bfloat16)

    def kept() -> int:
        held: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = _loss(model)
        assert loss.requires_grad
        return sum(held.values())

    plain = kept()
    with lean(model):
        assert kept() < 0.85 * plain


def test_layers_are_themselves_again_and_unknown_ones_are_left_alone() -> None:
    model, _ = _adapted("llama", torch.float32)
    model.model.norm = nn.RMSNorm(48)
    with lean(model):
        assert "forward" in vars(model.model.layers[0].mlp)
        assert "forward" not in vars(model.model.norm)
    assert not any("forward" in vars(module) for module in model.modules())
