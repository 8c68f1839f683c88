"""The F16 master: the one immutable parent of everything that is ever trained from a base model.

It is made once from the file that the user brought, whatever its quantisation: weights dequantised to F16, vectors to
F32, the key-value region byte for byte but for `general.file_type` and our own keys. Each night starts from it again; a
file of our own export is refused as a source, because updates chained through quantised files wear away.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from koboshi_runtime.files import replace_file
from koboshi_tools import Frozen, UsageError, hash_file

from .architectures import architecture_of
from .gguf.read import GgufFile, TensorInfo, read_gguf, read_rows
from .gguf.write import F16_FILE_TYPE, TensorPlan, template_pairs, write_gguf

PARENT_KEY = "koboshi.parent_hash"
SOURCE_KEY = "koboshi.source_hash"


class MasterManifest(Frozen):
    """What a master was made from; `source_types` counts the source's tensors by how they were stored."""

    master_hash: str
    source_hash: str
    architecture: str
    source_types: dict[str, int]


def make_master(source: Path, out: Path) -> MasterManifest:
    """Write the F16 master of `source` to `out` and its manifest to `out` + `.json`; one that is there is kept.

    Raises UsageError for an architecture whose export was not proved, for a file that we exported ourselves, and for
    weights that F16 cannot hold.
    """
    source_hash = hash_file(source)
    sidecar = out.with_name(out.name + ".json")
    if kept := _kept(out, sidecar, source_hash):
        return kept
    file = read_gguf(source)
    family = architecture_of(file)
    if PARENT_KEY in file.values:
        raise UsageError(
            f"{source} is an export of ours, made from {file.values[PARENT_KEY]}; it cannot be a master's source",
            hint="add the base model's own file and train from that",
        )
    pairs = template_pairs(file, {"general.file_type": F16_FILE_TYPE, SOURCE_KEY: source_hash})
    write_gguf(out, pairs, [_plan(file, tensor) for tensor in file.tensors.values()])
    kinds = Counter(tensor.kind.name for tensor in file.tensors.values())
    manifest = MasterManifest(
        master_hash=hash_file(out), source_hash=source_hash, architecture=family.name, source_types=dict(kinds)
    )
    replace_file(sidecar, manifest.model_dump_json(indent=1).encode())
    return manifest


def to_f16(weights: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """Return `weights` rounded to F16. Raises UsageError where one is not finite there."""
    with np.errstate(over="ignore"):
        half = weights.astype(np.float16)
    if not np.isfinite(half).all():
        raise UsageError(f"{name} holds a weight that F16 cannot: the largest is {np.abs(weights).max():g}")
    return half


def _kept(out: Path, sidecar: Path, source_hash: str) -> MasterManifest | None:
    if not (out.exists() and sidecar.exists()):
        return None
    try:
        manifest = MasterManifest.model_validate_json(sidecar.read_bytes())
    except ValidationError:
        return None
    fits = manifest.source_hash == source_hash and manifest.master_hash == hash_file(out)
    return manifest if fits else None


def _plan(file: GgufFile, tensor: TensorInfo) -> TensorPlan:
    if len(tensor.shape) == 1:
        return TensorPlan(tensor.name, tensor.shape, gguf.GGMLQuantizationType.F32, lambda: read_rows(file, tensor))

    def pieces() -> Iterable[NDArray[np.float16]]:
        return (to_f16(rows, tensor.name) for rows in read_rows(file, tensor))

    return TensorPlan(tensor.name, tensor.shape, gguf.GGMLQuantizationType.F16, pieces)
