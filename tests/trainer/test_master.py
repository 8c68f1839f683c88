from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tests.trainer.conftest import Kit

from koboshi_tools import UsageError
from koboshi_trainer.gguf.read import GgufError, TensorInfo, read_f16, read_gguf, read_tensor
from koboshi_trainer.gguf.write import TensorPlan, encode_pair, write_gguf
from koboshi_trainer.master import make_master
from koboshi_trainer.merge import merge
from koboshi_trainer.weights import load_model


@pytest.fixture
def quantised(tmp_path: Path, kit: Kit) -> Path:
    kit.quantise_q8_0(kit.write_tiny_model(tmp_path / "tiny.gguf", "llama"), tmp_path / "base.gguf")
    return tmp_path / "base.gguf"


def test_every_weight_is_the_source_s_own_dequantised_to_f16(quantised: Path, tmp_path: Path) -> None:
    manifest = make_master(quantised, tmp_path / "master.gguf")
    source, master = read_gguf(quantised), read_gguf(tmp_path / "master.gguf")
    assert manifest.source_types["Q8_0"] == 15
    assert list(master.tensors) == list(source.tensors)
    for name, tensor in master.tensors.items():
        wanted = read_tensor(source, source.tensors[name])
        if len(tensor.shape) == 1:
            assert tensor.kind == gguf.GGMLQuantizationType.F32
            assert np.array_equal(read_tensor(master, tensor), wanted)
        else:
            assert np.array_equal(read_f16(master, tensor), wanted.astype(np.float16))


def test_the_source_s_keys_are_kept_byte_for_byte_but_for_the_file_type(quantised: Path, tmp_path: Path) -> None:
    make_master(quantised, tmp_path / "master.gguf")
    source, master = read_gguf(quantised), read_gguf(tmp_path / "master.gguf")
    differing = [key for key in source.pairs if source.pairs[key] != master.pairs[key]]
    assert differing == ["general.file_type"]
    assert [key for key in master.pairs if key not in source.pairs] == ["koboshi.source_hash"]


def test_a_master_that_is_there_is_kept_and_a_damaged_one_made_again(quantised: Path, tmp_path: Path) -> None:
    out = tmp_path / "master.gguf"
    first = make_master(quantised, out)
    written = out.stat().st_mtime_ns
    assert make_master(quantised, out) == first
    assert out.stat().st_mtime_ns == written
    out.write_bytes(out.read_bytes()[:-1])
    assert make_master(quantised, out) == first
    assert out.stat().st_mode & 0o777 == 0o600


def test_an_export_of_ours_is_never_a_source(quantised: Path, tmp_path: Path) -> None:
    make_master(quantised, tmp_path / "master.gguf")
    merge(tmp_path / "master.gguf", {}, tmp_path / "merged.gguf", keys={"koboshi.parent_hash": "sha256:1"})
    with pytest.raises(UsageError, match="export of ours"):
        make_master(tmp_path / "merged.gguf", tmp_path / "again.gguf")


def test_a_weight_that_f16_cannot_hold_is_refused(tmp_path: Path) -> None:
    weights = np.full((2, 32), 1e6, dtype=np.float32)
    pairs = {"general.architecture": encode_pair("general.architecture", "llama")}
    plan = TensorPlan("token_embd.weight", weights.shape, gguf.GGMLQuantizationType.F32, lambda: [weights])
    write_gguf(tmp_path / "big.gguf", pairs, [plan])
    with pytest.raises(UsageError, match="F16 cannot"):
        make_master(tmp_path / "big.gguf", tmp_path / "master.gguf")
    assert not (tmp_path / "master.gguf").exists()


def test_a_model_loads_in_the_type_asked_for_with_its_output_tied(tmp_path: Path, kit: Kit) -> None:
    model = load_model(kit.write_tiny_model(tmp_path / "tiny.gguf", "gemma3"), torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training


def _plan(path: Path, tensor: TensorInfo) -> TensorPlan:
    return TensorPlan(tensor.name, tensor.shape, tensor.kind, lambda: [np.fromfile(path, np.uint8, tensor.size)])


def test_a_position_scaling_that_torch_would_not_follow_is_refused(tmp_path: Path, kit: Kit) -> None:
    path = kit.write_tiny_model(tmp_path / "tiny.gguf", "llama")
    file = read_gguf(path)
    pairs = dict(file.pairs) | {"x": encode_pair("llama.rope.scaling.type", "yarn")}
    write_gguf(tmp_path / "yarn.gguf", pairs, [_plan(path, tensor) for tensor in file.tensors.values()])
    with pytest.raises(GgufError, match="yarn"):
        load_model(tmp_path / "yarn.gguf")


def test_a_model_with_more_layers_than_its_metadata_says_is_refused(tmp_path: Path, kit: Kit) -> None:
    path = kit.write_tiny_model(tmp_path / "tiny.gguf", "qwen3")
    two, one = (encode_pair("qwen3.block_count", count) for count in (2, 1))
    path.write_bytes(path.read_bytes().replace(two, one))
    with pytest.raises(GgufError, match=r"leaves no place for model\.layers\.1"):
        load_model(path)
