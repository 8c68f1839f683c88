"""The speed measurement: its formula counts what torch counts, and a side's epoch is what it says."""

from pathlib import Path

import pytest
import torch
from tests.trainer.conftest import Kit
from torch.utils.flop_counter import FlopCounterMode

from koboshi_tools import KoboshiError
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.speed.measure import SpeedSettings, attainable, measure_side, operations
from koboshi_trainer.weights import load_model


def _rows(count: int, length: int) -> list[TokenRow]:
    ids = [tuple((7 * at + 13 * n) % 300 + 3 for at in range(length)) for n in range(count)]
    return [TokenRow((), row, tuple(at >= length // 2 for at in range(length))) for row in ids]


def test_formula_counts_the_products_that_torch_counts(tmp_path: Path, kit: Kit) -> None:
    model = load_model(kit.write_tiny_model(tmp_path / "m.gguf", "llama"))
    ids = [(7 * at) % 300 + 3 for at in range(32)]
    row = TokenRow((), tuple(ids), (False, *[True] * 31))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    config = model.config
    last_id = 2 * config.vocab_size * config.hidden_size
    pairs = 32 * 33 / 2
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * pairs
    # Torch does not count attention here, computes the logits of the last id too, and goes forward only: 2 of 4 a
    # weight and 4 of 12 a pair.
    expected = (operations(model, [row], r=0) - 3 * attention) / 2 + last_id
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-9)


def test_attainable_rate_falls_with_longer_rows(tmp_path: Path, kit: Kit) -> None:
    model = load_model(kit.write_tiny_model(tmp_path / "m.gguf", "llama"))
    short, long = (operations(model, _rows(1, length), r=8) / length for length in (32, 192))
    assert long > short
    found = attainable(model, _rows(4, 32), r=8)
    assert found.tokens_per_s == pytest.approx(found.product_flops_per_s / (found.operations / 128))


@pytest.mark.slow
def test_a_side_trains_every_row_once_in_a_process_of_its_own(tmp_path: Path, kit: Kit) -> None:
    master, rows = kit.write_tiny_model(tmp_path / "m.gguf", "llama"), _rows(24, 32)
    found = measure_side("koboshi", master, rows, SpeedSettings(batch_rows=8, threads=1))
    assert (found.tokens, found.learnt_tokens, found.optimizer_steps) == (24 * 32, 24 * 16, 3)
    assert found.tokens_per_s == pytest.approx(found.tokens / found.seconds)
    assert found.peak_bytes > 1e8


@pytest.mark.slow
def test_failing_side_says_why(tmp_path: Path) -> None:
    with pytest.raises(KoboshiError, match="koboshi ended with 1: .*nothing\\.gguf"):
        measure_side("koboshi", tmp_path / "nothing.gguf", _rows(1, 8), SpeedSettings(threads=1))
