from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koboshi_trainer.gguf.read import GgufError, Scalar, read_gguf, read_tensor
from koboshi_trainer.gguf.write import TensorPlan, encode_pair, template_pairs, write_gguf


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    values: dict[str, Scalar] = {"general.architecture": "llama", "a.b": 7, "c": 0.5}
    pairs = {key: encode_pair(key, value) for key, value in values.items()}
    matrix = np.arange(64, dtype=np.float16).reshape(2, 32)
    vector = np.arange(5, dtype=np.float32)
    plans = [
        TensorPlan("m", matrix.shape, gguf.GGMLQuantizationType.F16, lambda: [matrix]),
        TensorPlan("v", vector.shape, gguf.GGMLQuantizationType.F32, lambda: [vector]),
    ]
    write_gguf(path, pairs, plans)
    return path


def _header_length(path: Path) -> int:
    return min(tensor.offset for tensor in read_gguf(path).tensors.values())


def test_what_was_written_is_read(small: Path) -> None:
    file = read_gguf(small)
    assert dict(file.values) == {"general.architecture": "llama", "a.b": 7, "c": 0.5}
    assert read_tensor(file, file.tensors["m"]).tolist() == np.arange(64.0).reshape(2, 32).tolist()
    assert read_tensor(file, file.tensors["v"]).tolist() == [0, 1, 2, 3, 4]


def test_the_official_reader_agrees(small: Path) -> None:
    theirs = gguf.GGUFReader(small)
    assert [(tensor.name, tensor.data_offset) for tensor in theirs.tensors] == [
        (tensor.name, tensor.offset) for tensor in read_gguf(small).tensors.values()
    ]


def test_a_header_cut_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(_header_length(small)):
        cut.write_bytes(data[:length])
        with pytest.raises(GgufError):
            read_gguf(cut)


def test_a_file_cut_in_its_tensors_is_refused(small: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(small.read_bytes()[:-64])
    with pytest.raises(GgufError, match="does not lie in the file"):
        read_gguf(cut)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.integers(min_value=0, max_value=2**16), min_size=1, max_size=4))
def test_flipped_bits_are_refused_or_stay_within_the_file(small: Path, tmp_path: Path, flips: list[int]) -> None:
    data = bytearray(small.read_bytes())
    bits = 8 * _header_length(small)
    for flip in flips:
        data[flip % bits // 8] ^= 1 << (flip % 8)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    try:
        file = read_gguf(damaged)
    except GgufError:
        return
    for tensor in file.tensors.values():
        assert 0 < tensor.offset <= tensor.offset + tensor.size <= len(data)


@pytest.mark.parametrize(
    ("at", "claim"),
    [(8, 2**63), (8, 2**20), (16, 2**64 - 1)],
    ids=["tensors beyond memory", "tensors beyond reason", "keys beyond memory"],
)
def test_wild_counts_are_refused_before_anything_is_allocated(small: Path, tmp_path: Path, at: int, claim: int) -> None:
    data = bytearray(small.read_bytes())
    data[at : at + 8] = claim.to_bytes(8, "little")
    wild = tmp_path / "wild.gguf"
    wild.write_bytes(data)
    with pytest.raises(GgufError, match="claims"):
        read_gguf(wild)


def test_a_shape_whose_product_overflows_64_bits_is_refused(tmp_path: Path, small: Path) -> None:
    data = small.read_bytes()
    dimensions = (32).to_bytes(8, "little") + (2).to_bytes(8, "little")
    wild = tmp_path / "wild.gguf"
    wild.write_bytes(data.replace(dimensions, (2**60).to_bytes(8, "little") + (32).to_bytes(8, "little")))
    with pytest.raises(GgufError):
        read_gguf(wild)


def test_overlapping_tensors_are_refused(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    name = data.index(b"\x01\x00\x00\x00\x00\x00\x00\x00v")
    offset = name + 9 + 4 + 8 + 4
    assert int.from_bytes(data[offset : offset + 8], "little") == 128
    data[offset : offset + 8] = bytes(8)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    with pytest.raises(GgufError, match="overlap"):
        read_gguf(damaged)


def test_a_template_keeps_every_byte_but_what_is_changed(small: Path) -> None:
    file = read_gguf(small)
    pairs = template_pairs(file, {"a.b": 8, "koboshi.run_id": "r"})
    assert list(pairs) == ["general.architecture", "a.b", "c", "koboshi.run_id"]
    assert pairs["general.architecture"] == file.pairs["general.architecture"]
    assert pairs["c"] == file.pairs["c"]
    assert pairs["a.b"] == encode_pair("a.b", 8)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    plan = TensorPlan("v", (4,), gguf.GGMLQuantizationType.F32, lambda: [np.zeros(3, dtype=np.float32)])
    with pytest.raises(ValueError, match="its plan says 16"):
        write_gguf(tmp_path / "x.gguf", {}, [plan])
    assert list(tmp_path.iterdir()) == []
