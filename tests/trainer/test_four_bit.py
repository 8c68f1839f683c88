"""Weights in four bits: near what they were, a ninth of their size, and trained on as exactly as any others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.conftest import Kit
from tests.trainer.test_fit import SETTINGS, model, rows
from torch import nn

from koboshi_trainer import lora
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_file import fit_file, load_for
from koboshi_trainer.four_bit import BLOCK, FourBitLinear, make_four_bit
from koboshi_trainer.weights import load_model

FOUR_BIT = SETTINGS.model_copy(update={"four_bit": True, "learning_rate": 1e-2})
_WIDEST_GAP = 1.0 - 0.6961928009986877


def packed(weight: torch.Tensor) -> FourBitLinear:
    layer = FourBitLinear(weight.shape[1], weight.shape[0], None)
    layer.take(weight)
    return layer


@pytest.mark.parametrize("shape", [(4, 64), (48, 32), (7, 9), (1, 1)])
def test_no_weight_is_off_by_more_than_half_the_widest_gap(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    found = packed(weight).dense(torch.float32)
    assert found.shape == weight.shape
    flat = torch.nn.functional.pad((found - weight).flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    largest = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK).abs().amax(1)
    assert bool((flat.abs().amax(1) <= largest * _WIDEST_GAP / 2 + 1e-6).all())
    assert float((found - weight).abs().mean()) < 0.12


def test_zeros_and_a_blocks_largest_weight_stay_as_they_are() -> None:
    weight = torch.zeros(2, 64)
    weight[1, 5] = -3.25
    assert torch.equal(packed(weight).dense(torch.float32), weight)


def test_a_module_that_computes_in_bf16_keeps_its_scales() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    layer = packed(weight)
    before = layer.dense(torch.float32)
    assert torch.equal(layer.to(torch.bfloat16).dense(torch.float32), before)
    held = sum(tensor.numel() * tensor.element_size() for tensor in layer.buffers())
    assert held == weight.numel() * 4.5 / 8


def test_a_fit_on_four_bits_is_that_on_the_weights_they_stand_for(tmp_path: Path) -> None:
    four, plain = model(), model()
    for name, layer in make_four_bit(four).items():
        dense = plain.get_submodule(name)
        layer.take(dense.weight)
        with torch.no_grad():
            dense.weight.copy_(layer.dense(torch.float32))
    settings = SETTINGS.model_copy(update={"learning_rate": 1e-2})
    reports = [
        fit(one, rows(), settings, tmp_path / name, base="b", held_out={"seen": rows()})
        for one, name in ((four, "four"), (plain, "plain"))
    ]
    assert reports[0].losses == pytest.approx(reports[1].losses, rel=1e-5)
    first, second = (lora.load_state(tmp_path / name) for name in ("four", "plain"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert isinstance(four.get_submodule("model.layers.0.mlp.up_proj"), FourBitLinear)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3"])
def test_a_file_is_loaded_in_four_bits_layer_by_layer(tmp_path: Path, kit: Kit, family: str) -> None:
    master = kit.write_tiny_model(tmp_path / "m.gguf", family)
    whole, four = load_model(master), load_for(master, FOUR_BIT)
    head, ids = whole.get_output_embeddings(), torch.tensor([[1, 5, 9, 3]])
    for layer in whole.modules():
        if isinstance(layer, nn.Linear) and layer is not head:
            with torch.no_grad():
                layer.weight.copy_(packed(layer.weight).dense(torch.float32))
    with torch.inference_mode():
        wanted, found = whole(ids).logits, four.float()(ids).logits
    assert torch.allclose(found, wanted, atol=0.05 * float(wanted.abs().max()))
    assert not [one for one in _linears(four) if one is not four.get_output_embeddings()]


def _linears(of: Any) -> list[nn.Module]:
    return [module for module in of.modules() if isinstance(module, nn.Linear)]


def test_a_fit_in_four_bits_learns(tmp_path: Path, kit: Kit) -> None:
    master = kit.write_tiny_model(tmp_path / "m.gguf", "llama")
    settings = FOUR_BIT.model_copy(update={"optimizer_steps": 40, "learning_rate": 3e-2})
    report = fit_file(master, load_for(master, settings), rows(), settings, tmp_path / "out", held_out={"seen": rows()})
    assert report.held_out_after["seen"] < 0.7 * report.held_out_before["seen"]
