"""Merge a LoRA into the F16 master, tensor by tensor.

D = scale * B @ A is made and added in float32 and the sum rounded to F16 once, in pieces of 64 MiB, so that a model
larger than memory passes. The output is the master's key-value region byte for byte with our own keys behind it, and
the master's tensors in its order. A zero LoRA gives every tensor bit for bit.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from koboshi_tools import UsageError

from .adapter import LoraDelta
from .gguf.read import GgufFile, Scalar, TensorInfo, read_bytes, read_gguf, read_rows
from .gguf.write import F16_FILE_TYPE, OWN_PREFIX, TensorPlan, template_pairs, write_gguf
from .master import to_f16


def merge(master: Path, adapter: Mapping[str, LoraDelta], out: Path, *, keys: Mapping[str, Scalar]) -> None:
    """Write the merged F16 model to `out`, with `keys`, all of them `koboshi.*`, behind the master's own.

    Raises UsageError where the adapter names a tensor that is not an F16 matrix of the master, or a sum leaves F16.
    """
    file = read_gguf(master)
    _check(file, adapter, keys)
    pairs = template_pairs(file, {"general.file_type": F16_FILE_TYPE, **keys})
    write_gguf(out, pairs, [_plan(file, tensor, adapter.get(tensor.name)) for tensor in file.tensors.values()])


def _check(file: GgufFile, adapter: Mapping[str, LoraDelta], keys: Mapping[str, Scalar]) -> None:
    wrong = [key for key in keys if not key.startswith(OWN_PREFIX)]
    if wrong:
        raise ValueError(f"not a key of ours: {wrong[0]}")
    for name in adapter:
        tensor = file.tensors.get(name)
        if tensor is None or tensor.kind != gguf.GGMLQuantizationType.F16:
            kind = "missing" if tensor is None else tensor.kind.name
            raise UsageError(
                f"the adapter changes {name}, which is {kind} in {file.path}",
                hint="merge onto the F16 master; a quantised file is never a parent",
            )


def _plan(file: GgufFile, tensor: TensorInfo, delta: LoraDelta | None) -> TensorPlan:
    if delta is None:
        return TensorPlan(tensor.name, tensor.shape, tensor.kind, lambda: [read_bytes(file, tensor)])
    update = delta

    def pieces() -> Iterable[NDArray[np.float16]]:
        start = 0
        for rows in read_rows(file, tensor):
            stop = start + len(rows)
            yield to_f16(rows + update.rows(start, stop), tensor.name)
            start = stop

    return TensorPlan(tensor.name, tensor.shape, tensor.kind, pieces)
