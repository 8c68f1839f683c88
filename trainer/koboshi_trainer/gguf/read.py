"""Read a GGUF file that nobody vouches for: a strict header, then tensors by rows.

Every count, length and offset is checked against the file's own length and the limits below before anything of that
size is allocated, because the packages that parse GGUF do not. What is read keeps the bytes of each key-value pair, so
that a copy of the file can carry them unchanged.

Covered: truncation, wild counts and lengths, nested arrays, duplicate names, offsets outside the file, overlapping
tensors. Not covered: whether the values make sense; a flipped bit inside a string or a weight reads as another value.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import gguf
import numpy as np
from numpy.typing import NDArray

from koboshi_tools import UsageError

Scalar = str | int | float | bool

_MAGIC = b"GGUF"
# Version 1 has 32-bit lengths and no alignment; nothing has written it since 2023.
_VERSIONS = (2, 3)
_MAX_KEYS = 4096
# The largest models of 2026 have some 2,000 tensors; experts in one tensor keep it so.
_MAX_TENSORS = 65_536
_MAX_NAME_BYTES = 256
# A vocabulary of 16 M entries would be sixty times Gemma's.
_MAX_ARRAY = 1 << 24
_MAX_STRING_BYTES = 1 << 24
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY, _BOOL = 8, 9, 7
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# A tensor is dequantised in pieces of so many weights: 64 MiB of float32.
_PIECE_WEIGHTS = 1 << 24


class GgufError(UsageError):
    """A file that is not a GGUF as the format has it, or that exceeds what a real model needs."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `shape` as numpy has it, rows first; `offset` and `size` in bytes from the file's start."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    offset: int
    size: int

    @property
    def rows(self) -> int:
        """How many rows of the last dimension there are."""
        return int(np.prod(self.shape[:-1], dtype=np.int64))


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A header that was checked. `pairs` holds each key's own bytes in file order; arrays are not in `values`."""

    path: Path
    pairs: Mapping[str, bytes]
    values: Mapping[str, Scalar]
    arrays: Mapping[str, int]
    tensors: Mapping[str, TensorInfo]

    @property
    def architecture(self) -> str:
        """The model's architecture as llama.cpp names it."""
        return str(self.values.get("general.architecture", ""))

    def number(self, key: str, default: float | None = None) -> float:
        """Return the value of `ARCHITECTURE.key`. Raises GgufError where it is missing without a default."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        raise GgufError(f"{self.path} has no number {self.architecture}.{key}: found {value!r}")


def read_gguf(path: Path) -> GgufFile:
    """Read the header of `path`. Raises GgufError, naming what is wrong and where."""
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            return _Header(file, path, length).read()
    except OSError as error:
        raise GgufError(f"{path} was not read: {error.strerror}") from error


def read_rows(file: GgufFile, tensor: TensorInfo) -> Iterator[NDArray[np.float32]]:
    """Yield the tensor dequantised, `(some rows, columns)` float32, all its rows in order, at most 64 MiB at once."""
    columns = tensor.shape[-1]
    raw = _raw_rows(file, tensor)
    step = max(1, _PIECE_WEIGHTS // columns)
    for start in range(0, tensor.rows, step):
        yield _dequantise(raw[start : start + step], tensor)


def read_tensor(file: GgufFile, tensor: TensorInfo) -> NDArray[np.float32]:
    """Return the whole tensor dequantised, in its own shape, float32."""
    return np.concatenate(list(read_rows(file, tensor))).reshape(tensor.shape)


def read_f16(file: GgufFile, tensor: TensorInfo) -> NDArray[np.float16]:
    """Return an F16 tensor in its own shape as a read-only view of the file, no copy."""
    return _raw_rows(file, tensor).view(np.float16).reshape(tensor.shape)


def read_bytes(file: GgufFile, tensor: TensorInfo) -> NDArray[np.uint8]:
    """Return the tensor's bytes as they are, `(rows, bytes of a row)`, a read-only view of the file."""
    return _raw_rows(file, tensor)


def _raw_rows(file: GgufFile, tensor: TensorInfo) -> NDArray[np.uint8]:
    shape = (tensor.rows, tensor.size // tensor.rows)
    return np.memmap(file.path, dtype=np.uint8, mode="r", offset=tensor.offset, shape=shape)


def _dequantise(raw: NDArray[np.uint8], tensor: TensorInfo) -> NDArray[np.float32]:
    try:
        rows: NDArray[np.float32] = gguf.dequantize(raw, tensor.kind)
    except NotImplementedError as error:
        raise GgufError(
            f"{tensor.name} is stored as {tensor.kind.name}, which cannot be dequantised here",
            hint="use a file quantised to Q8_0, F16, or one of the K-quants",
        ) from error
    return rows.reshape(len(raw), -1)


class _Header:
    """A cursor over the header that never reads past the file's length."""

    def __init__(self, file: BinaryIO, path: Path, length: int) -> None:
        self.file = file
        self.path = path
        self.length = length

    def read(self) -> GgufFile:
        if self._take(4) != _MAGIC:
            raise GgufError(f"{self.path} is not a GGUF file")
        version = self._unpack("<I")
        if version not in _VERSIONS:
            raise GgufError(f"{self.path} is GGUF version {version}; versions 2 and 3, little-endian, are read")
        tensor_count = self._bounded(self._unpack("<Q"), _MAX_TENSORS, "tensors")
        key_count = self._bounded(self._unpack("<Q"), _MAX_KEYS, "keys")
        pairs: dict[str, bytes] = {}
        values: dict[str, Scalar] = {}
        arrays: dict[str, int] = {}
        for _ in range(key_count):
            self._pair(pairs, values, arrays)
        alignment = self._alignment(values)
        infos = self._infos(tensor_count, alignment)
        frozen = MappingProxyType
        return GgufFile(self.path, frozen(pairs), frozen(values), frozen(arrays), frozen(infos))

    def _pair(self, pairs: dict[str, bytes], values: dict[str, Scalar], arrays: dict[str, int]) -> None:
        start = self.file.tell()
        key = self._name()
        if key in pairs:
            raise GgufError(f"{self.path} has the key {key!r} twice")
        kind = self._unpack("<I")
        if kind == _ARRAY:
            arrays[key] = self._skip_array(key)
        elif kind == _STRING:
            values[key] = self._string(_MAX_STRING_BYTES).decode("utf-8", "replace")
        elif kind in _FORMATS:
            values[key] = self._unpack(_FORMATS[kind])
        else:
            raise GgufError(f"{self.path}: the key {key!r} has the unknown type {kind}")
        end = self.file.tell()
        self.file.seek(start)
        pairs[key] = self._take(end - start)

    def _skip_array(self, key: str) -> int:
        kind = self._unpack("<I")
        count = self._bounded(self._unpack("<Q"), _MAX_ARRAY, f"entries of {key!r}")
        if kind == _STRING:
            for _ in range(count):
                self._string(_MAX_STRING_BYTES)
        elif kind in _FORMATS:
            self._take(count * struct.calcsize(_FORMATS[kind]))
        else:
            raise GgufError(f"{self.path}: the array {key!r} holds the unknown or nested type {kind}")
        return count

    def _alignment(self, values: Mapping[str, Scalar]) -> int:
        value = values.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or not 8 <= value <= 1 << 16 or value & (value - 1):
            raise GgufError(f"{self.path} has the alignment {value!r}; a power of two from 8 to 65536 is read")
        return value

    def _infos(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        found = [self._info() for _ in range(count)]
        data_start = -(-self.file.tell() // alignment) * alignment
        infos: dict[str, TensorInfo] = {}
        for info in found:
            if info.name in infos:
                raise GgufError(f"{self.path} has the tensor {info.name!r} twice")
            if info.offset % alignment or data_start + info.offset + info.size > self.length:
                raise GgufError(
                    f"{self.path}: {info.name} of {info.size} bytes at {data_start + info.offset} does not lie in the "
                    f"file's {self.length} bytes",
                    hint="the file is damaged or was cut short; fetch it again",
                )
            infos[info.name] = TensorInfo(info.name, info.shape, info.kind, data_start + info.offset, info.size)
        self._refuse_overlap(infos)
        return infos

    def _refuse_overlap(self, infos: Mapping[str, TensorInfo]) -> None:
        ordered = sorted(infos.values(), key=lambda info: info.offset)
        for before, after in zip(ordered, ordered[1:], strict=False):
            if before.offset + before.size > after.offset:
                raise GgufError(f"{self.path}: the tensors {before.name} and {after.name} overlap")

    def _info(self) -> TensorInfo:
        name = self._name()
        dimensions = self._unpack("<I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise GgufError(f"{self.path}: {name} has {dimensions} dimensions")
        shape = tuple(int(self._unpack("<Q")) for _ in range(dimensions))[::-1]
        kind_number = self._unpack("<I")
        offset = int(self._unpack("<Q"))
        try:
            kind = gguf.GGMLQuantizationType(kind_number)
        except ValueError as error:
            raise GgufError(f"{self.path}: {name} has the unknown tensor type {kind_number}") from error
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        weights = 1
        for size in shape:
            # Multiplied in Python's unbounded integers: this product is where C parsers overflow.
            weights *= size
        if weights < 1 or shape[-1] % block:
            raise GgufError(f"{self.path}: {name} of shape {shape} cannot be {kind.name}")
        return TensorInfo(name, shape, kind, offset, weights // block * block_bytes)

    def _name(self) -> str:
        data = self._string(_MAX_NAME_BYTES)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(f"{self.path} has a name that is not UTF-8: {data[:40]!r}") from error

    def _string(self, limit: int) -> bytes:
        return self._take(self._bounded(self._unpack("<Q"), limit, "bytes of a string"))

    def _bounded(self, value: int, limit: int, what: str) -> int:
        if value > limit:
            raise GgufError(f"{self.path} claims {value} {what}; at most {limit} are read")
        return value

    def _unpack(self, layout: str) -> int:
        value: int = struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        return value

    def _take(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.length - self.file.tell() else b""
        if len(data) != count:
            raise GgufError(
                f"{self.path} ends inside its header, at byte {self.file.tell()} of {self.length}",
                hint="the file is damaged or was cut short; fetch it again",
            )
        return data
