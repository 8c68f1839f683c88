"""From a trained adapter to files that llama.cpp loads: merged F16, Q8_0 of it, and the adapter by itself.

Each file appears whole or not at all, and `export.json` beside them says after every stage what was made from what. A
stage that is recorded, whose parents have the same hashes and whose file has its recorded hash is not made again, so an
export that was killed goes on where it stopped. One export at a time may use a folder. The quantised file is a leaf:
nothing is ever made from it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from koboshi_runtime.files import TEMPORARY, replace_file
from koboshi_tools import Frozen, KoboshiError, hash_file, hash_value

from .adapter import read_adapter
from .gguf.adapter import write_adapter
from .gguf.read import GgufFile, Scalar, read_gguf
from .gguf.write import whole_path
from .master import PARENT_KEY
from .merge import merge

StageName = Literal["f16", "q8_0", "adapter"]
# Writes an F16 GGUF as Q8_0; it may leave a part of a file where it fails.
Quantise = Callable[[Path, Path], None]

MANIFEST = "export.json"
_FILES: Mapping[StageName, str] = {"f16": "model.f16.gguf", "q8_0": "model.q8_0.gguf", "adapter": "adapter.gguf"}
# What llama.cpp's quantisation may say anew.
_QUANTISED_KEYS = {"general.file_type", "general.quantization_version"}


class ExportStage(Frozen):
    """One finished file: its name in the folder, its hash, and the hashes of what it was made from."""

    name: StageName
    file: str
    file_hash: str
    parents: dict[str, str]


class ExportManifest(Frozen):
    """What an export made so far, in order."""

    master_hash: str
    adapter_hash: str
    run_id: str
    stages: tuple[ExportStage, ...] = ()

    def stage(self, name: StageName) -> ExportStage:
        """Return a finished stage. Raises KeyError for one that was not made."""
        return {stage.name: stage for stage in self.stages}[name]


def export(
    master: Path,
    adapter: Path,
    out: Path,
    *,
    quantise: Quantise,
    run_id: str,
    on_stage: Callable[[StageName], None] = lambda name: None,
) -> ExportManifest:
    """Make the three files of PEFT's folder `adapter` on `master` in the folder `out`, and return their manifest.

    `on_stage` is told each stage before it is made. Raises KoboshiError where the adapter does not fit the master or
    llama.cpp does not quantise; what was made before is kept.
    """
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    for leftover in out.glob(f"{TEMPORARY}*"):
        # Of an export that was killed; as large as a model.
        leftover.unlink()
    manifest = ExportManifest(master_hash=hash_file(master), adapter_hash=hash_adapter(adapter), run_id=run_id)
    finished = _finished(out, manifest)
    model = read_gguf(master)
    updates = read_adapter(adapter, model)
    keys: dict[str, Scalar] = {
        PARENT_KEY: manifest.master_hash,
        "koboshi.adapter_hash": manifest.adapter_hash,
        "koboshi.run_id": run_id,
    }
    parents = {"master": manifest.master_hash, "adapter": manifest.adapter_hash}
    f16 = out / _FILES["f16"]
    makers: dict[StageName, Callable[[Path], None]] = {
        "f16": lambda path: merge(master, updates, path, keys=keys),
        "q8_0": lambda path: _quantise(f16, path, quantise),
        "adapter": lambda path: write_adapter(path, updates, architecture=model.architecture, keys=keys),
    }
    for name, make in makers.items():
        made_from = {"f16": manifest.stage("f16").file_hash} if name == "q8_0" else parents
        stage = finished.get(name)
        if stage is None or stage.parents != made_from:
            on_stage(name)
            make(out / _FILES[name])
            file_hash = hash_file(out / _FILES[name])
            stage = ExportStage(name=name, file=_FILES[name], file_hash=file_hash, parents=made_from)
        manifest = manifest.model_copy(update={"stages": (*manifest.stages, stage)})
        replace_file(out / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return manifest


def hash_adapter(folder: Path) -> str:
    """Return the hash of an adapter: of its weights and its configuration."""
    return hash_value({name: hash_file(folder / name) for name in ("adapter_model.safetensors", "adapter_config.json")})


def _finished(out: Path, wanted: ExportManifest) -> dict[StageName, ExportStage]:
    try:
        found = ExportManifest.model_validate_json((out / MANIFEST).read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
    if found.model_copy(update={"stages": ()}) != wanted:
        return {}
    return {stage.name: stage for stage in found.stages if _is_whole(out / stage.file, stage.file_hash)}


def _is_whole(path: Path, file_hash: str) -> bool:
    return path.exists() and hash_file(path) == file_hash


def _quantise(source: Path, target: Path, quantise: Quantise) -> None:
    with whole_path(target) as partial:
        quantise(source, partial)
        _verify(read_gguf(source), read_gguf(partial))


def _verify(source: GgufFile, quantised: GgufFile) -> None:
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    if shapes != {name: tensor.shape for name, tensor in quantised.tensors.items()}:
        raise KoboshiError(f"the quantised {source.path} has other tensors than its source")
    differing = [
        key
        for key in source.pairs.keys() | quantised.pairs.keys()
        if key not in _QUANTISED_KEYS and source.pairs.get(key) != quantised.pairs.get(key)
    ]
    if differing:
        raise KoboshiError(f"the quantised {source.path} changed the keys {', '.join(sorted(differing)[:3])}")
