import json
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import peft
import pytest
import torch
from tests.trainer.conftest import Kit

from koboshi_tools import KoboshiError, UsageError
from koboshi_trainer.adapter import AdapterError, LoraDelta, read_adapter
from koboshi_trainer.gguf.read import read_gguf, read_tensor
from koboshi_trainer.kept import measure_kept, same_tensors
from koboshi_trainer.merge import merge
from koboshi_trainer.weights import load_model


@pytest.fixture
def master(tmp_path: Path, kit: Kit) -> Path:
    return kit.write_tiny_model(tmp_path / "tiny.gguf", "llama")


def test_a_zero_lora_gives_every_tensor_bit_for_bit(master: Path, tmp_path: Path, kit: Kit) -> None:
    file = read_gguf(master)
    adapter = read_adapter(kit.write_random_adapter(tmp_path / "adapter", file, size=0.0), file)
    assert len(adapter) == 14
    merge(master, adapter, tmp_path / "out.gguf", keys={"koboshi.run_id": "r"})
    assert same_tensors(master, tmp_path / "out.gguf")


def test_the_master_s_keys_are_kept_byte_for_byte_with_ours_behind(master: Path, tmp_path: Path) -> None:
    merge(master, {}, tmp_path / "out.gguf", keys={"koboshi.run_id": "r"})
    before, after = read_gguf(master), read_gguf(tmp_path / "out.gguf")
    assert b"".join(after.pairs.values()).startswith(b"".join(before.pairs.values()))
    assert after.values["koboshi.run_id"] == "r"


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_the_merged_weights_are_what_peft_itself_merges(architecture: str, tmp_path: Path, kit: Kit) -> None:
    master = kit.write_tiny_model(tmp_path / "tiny.gguf", architecture)
    model = peft.get_peft_model(
        load_model(master), peft.LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    wanted = model.merge_and_unload().state_dict()
    merge(master, read_adapter(tmp_path / "adapter", read_gguf(master)), tmp_path / "out.gguf", keys={})
    found = load_model(tmp_path / "out.gguf").state_dict()
    assert found.keys() == wanted.keys()
    for name, weight in found.items():
        # F16 has 11 bits; an update of the wrong rows would be off by 0.01 and more.
        assert torch.allclose(weight, wanted[name], rtol=1e-3, atol=1e-4)


def test_all_of_a_small_update_arrives_in_f16(master: Path, tmp_path: Path, kit: Kit) -> None:
    file = read_gguf(master)
    adapter = read_adapter(kit.write_random_adapter(tmp_path / "adapter", file, size=0.01), file)
    merge(master, adapter, tmp_path / "out.gguf", keys={})
    kept = measure_kept(master, adapter, tmp_path / "out.gguf")
    assert kept.total == pytest.approx(1, abs=0.01)
    assert kept.worst == pytest.approx(1, abs=0.02)
    assert set(kept.by_layer) == {0, 1}


def test_an_update_that_did_not_arrive_is_measured_as_lost(master: Path, tmp_path: Path, kit: Kit) -> None:
    file = read_gguf(master)
    adapter = read_adapter(kit.write_random_adapter(tmp_path / "adapter", file, size=0.1), file)
    without = {name: delta for name, delta in adapter.items() if name != "blk.1.ffn_up.weight"}
    merge(master, without, tmp_path / "out.gguf", keys={})
    kept = measure_kept(master, adapter, tmp_path / "out.gguf")
    assert (kept.worst, kept.worst_tensor) == (0.0, "blk.1.ffn_up.weight")


def test_a_small_update_is_lost_on_the_grid_that_the_master_came_from(tmp_path: Path) -> None:
    """The same-grid trap: why a quantised file is a leaf and never a parent."""
    kinds = gguf.GGMLQuantizationType
    generator = np.random.default_rng(0)
    base = generator.normal(0, 0.1, (512, 512)).astype(np.float32)
    weight = gguf.dequantize(gguf.quantize(base, kinds.Q4_1), kinds.Q4_1).astype(np.float16).astype(np.float32)
    update = (generator.normal(0, 1, (512, 8)) @ generator.normal(0, 1, (8, 512)) * 0.1 * 0.005 / 8**0.5).astype(
        np.float32
    )

    def kept(kind: gguf.GGMLQuantizationType) -> float:
        back = gguf.dequantize(gguf.quantize(weight + update, kind), kind)
        return float((update * (back - weight)).sum() / (update * update).sum())

    assert kept(kinds.Q4_1) < 0.3
    assert kept(kinds.Q8_0) > 0.95


def test_merging_onto_a_quantised_file_is_refused(master: Path, tmp_path: Path, kit: Kit) -> None:
    kit.quantise_q8_0(master, tmp_path / "q.gguf")
    adapter = {"blk.0.attn_q.weight": LoraDelta(np.zeros((1, 64), np.float32), np.zeros((128, 1), np.float32), 1.0)}
    with pytest.raises(UsageError, match="Q8_0"):
        merge(tmp_path / "q.gguf", adapter, tmp_path / "out.gguf", keys={})


def test_a_sum_that_f16_cannot_hold_is_refused_and_leaves_nothing(master: Path, tmp_path: Path) -> None:
    huge = MappingProxyType(
        {"blk.0.ffn_up.weight": LoraDelta(np.full((1, 64), 1e3, np.float32), np.full((96, 1), 1e3, np.float32), 1.0)}
    )
    with pytest.raises(UsageError, match="F16 cannot"):
        merge(master, huge, tmp_path / "out.gguf", keys={})
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize("change", [{"use_dora": True}, {"bias": "all"}, {"rank_pattern": {"x": 2}}, {"r": 0}])
def test_an_adapter_that_is_not_plain_lora_is_refused(
    change: dict[str, object], master: Path, tmp_path: Path, kit: Kit
) -> None:
    file = read_gguf(master)
    folder = kit.write_random_adapter(tmp_path / "adapter", file, size=0.1)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(AdapterError):
        read_adapter(folder, file)


def test_an_adapter_of_another_model_is_refused(master: Path, tmp_path: Path, kit: Kit) -> None:
    other = read_gguf(kit.write_tiny_model(tmp_path / "other.gguf", "qwen2"))
    folder = kit.write_random_adapter(tmp_path / "adapter", other, size=0.1)
    with pytest.raises(KoboshiError, match="_proj"):
        read_adapter(folder, read_gguf(master))


def test_half_a_pair_is_refused(master: Path, tmp_path: Path, kit: Kit) -> None:
    from safetensors.torch import load_file, save_file

    folder = kit.write_random_adapter(tmp_path / "adapter", read_gguf(master), size=0.1)
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "lora_B" in name))
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="pair"):
        read_adapter(folder, read_gguf(master))


def test_read_tensor_gives_the_shape_of_the_header(master: Path) -> None:
    file = read_gguf(master)
    assert read_tensor(file, file.tensors["blk.0.attn_k.weight"]).shape == (64, 64)
