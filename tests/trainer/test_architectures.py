from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trainer.conftest import Kit

from koboshi_tools import UsageError
from koboshi_trainer.architectures import ARCHITECTURES, Architecture, architecture_of, heads_of
from koboshi_trainer.gguf.read import read_gguf, read_tensor
from koboshi_trainer.gguf.write import encode_pair, write_gguf


@pytest.mark.parametrize("family", ARCHITECTURES.values(), ids=lambda family: family.name)
def test_every_name_goes_to_torch_and_back(family: Architecture) -> None:
    for name in [
        *(f"blk.7.{part}" for part in family.layer),
        "token_embd.weight",
        "output_norm.weight",
        "output.weight",
    ]:
        parameter = family.torch_name(name)
        assert parameter is not None
        assert family.gguf_name(parameter) == name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_goes_to_torch_and_back(architecture: str, tmp_path: Path, kit: Kit) -> None:
    file = read_gguf(kit.write_tiny_model(tmp_path / "tiny.gguf", architecture))
    family = architecture_of(file)
    for name, tensor in file.tensors.items():
        weight, heads = read_tensor(file, tensor), heads_of(file, name)
        assert np.allclose(family.to_gguf(name, family.to_torch(name, weight, heads), heads), weight, atol=1e-6)


@given(heads=st.integers(1, 5), half=st.integers(1, 4), columns=st.integers(1, 3))
def test_a_llama_head_keeps_its_rows_and_pairs_them(heads: int, half: int, columns: int) -> None:
    weight = np.arange(heads * half * 2 * columns, dtype=np.float32).reshape(-1, columns)
    stored = ARCHITECTURES["llama"].to_gguf("blk.0.attn_q.weight", weight, heads)
    rotated = stored.reshape(heads, half, 2, columns)
    assert np.array_equal(rotated[:, :, 0], weight.reshape(heads, 2, half, columns)[:, 0])
    assert np.array_equal(rotated[:, :, 1], weight.reshape(heads, 2, half, columns)[:, 1])


def test_an_unproved_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, {"general.architecture": encode_pair("general.architecture", "falcon")}, [])
    with pytest.raises(UsageError, match="falcon") as caught:
        architecture_of(read_gguf(path))
    assert "llama, gemma3, qwen2, qwen3" in str(caught.value.hint)


def test_a_tensor_of_unknown_use_is_refused(tmp_path: Path, kit: Kit) -> None:
    path = kit.write_tiny_model(tmp_path / "tiny.gguf", "llama")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xp.weight"))
    with pytest.raises(UsageError, match=r"blk\.1\.ffn_xp\.weight"):
        architecture_of(read_gguf(path))
