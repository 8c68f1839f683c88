"""Write a GGUF file from a template: its key-value pairs byte for byte, our own keys after them, tensors streamed.

The file appears under its name whole or not at all: it is written beside it, fsynced, renamed, and the folder fsynced.
Memory is that of the piece at hand.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
from numpy.typing import NDArray

from koboshi_runtime.files import sync_folder, temporary_name

from .read import GgufFile, Scalar

_VERSION = 3
_ALIGNMENT = 32
_UINT32, _FLOAT32, _BOOL, _STRING, _UINT64 = 4, 6, 7, 8, 10
# Our own keys: what the file was made from.
OWN_PREFIX = "koboshi."
F16_FILE_TYPE = int(gguf.LlamaFileType.MOSTLY_F16)


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor to be written: `shape` rows first, and its pieces, whose bytes in order are the tensor."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    pieces: Callable[[], Iterable[NDArray[np.generic]]]

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.kind]
        weights = int(np.prod(self.shape, dtype=np.int64))
        return int(weights // block * block_bytes)


def template_pairs(template: GgufFile, changed: Mapping[str, Scalar]) -> dict[str, bytes]:
    """Return the template's pairs in their order with `changed` in place or at the end, its own keys of ours left out.

    The alignment of what we write is GGUF's default, so a key that says otherwise is left out too.
    """
    kept = {
        key: encode_pair(key, changed[key]) if key in changed else data
        for key, data in template.pairs.items()
        if key in changed or not (key.startswith(OWN_PREFIX) or key == "general.alignment")
    }
    return kept | {key: encode_pair(key, value) for key, value in changed.items() if key not in kept}


def encode_pair(key: str, value: Scalar) -> bytes:
    """Return one key-value pair as GGUF stores it; whole numbers as uint32 where they fit, fractions as float32."""
    match value:
        case bool():
            body = struct.pack("<I?", _BOOL, value)
        case int() if value < 1 << 32:
            body = struct.pack("<II", _UINT32, value)
        case int():
            body = struct.pack("<IQ", _UINT64, value)
        case float():
            body = struct.pack("<If", _FLOAT32, value)
        case str():
            body = struct.pack("<I", _STRING) + _string(value)
    return _string(key) + body


def write_gguf(path: Path, pairs: Mapping[str, bytes], tensors: Iterable[TensorPlan]) -> None:
    """Write `path` from encoded pairs and planned tensors, whole or not at all."""
    plans = list(tensors)
    with whole_file(path) as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", _VERSION, len(plans), len(pairs)))
        for data in pairs.values():
            file.write(data)
        offset = 0
        for plan in plans:
            file.write(_string(plan.name) + struct.pack("<I", len(plan.shape)))
            file.write(struct.pack(f"<{len(plan.shape)}Q", *reversed(plan.shape)))
            file.write(struct.pack("<IQ", int(plan.kind), offset))
            offset += _aligned(plan.size)
        _pad(file)
        for plan in plans:
            _write_tensor(file, plan)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that becomes `path`, mode 0600, when the block ends well, and leaves nothing when it does not."""
    with whole_path(path) as partial, partial.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        yield file


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` for another program to write; fsync and rename it when the block ends well."""
    partial = temporary_name(path)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _write_tensor(file: BinaryIO, plan: TensorPlan) -> None:
    start = file.tell()
    for piece in plan.pieces():
        file.write(np.ascontiguousarray(piece).data)
    written = file.tell() - start
    if written != plan.size:
        raise ValueError(f"{plan.name} has {written} bytes, its plan says {plan.size}")
    _pad(file)


def _pad(file: BinaryIO) -> None:
    position = file.tell()
    file.write(bytes(_aligned(position) - position))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
