"""Measure an export: llama.cpp's logits of the F16 and Q8_0 files beside the trained model's own in float32.

The corpus is half prose, half held-out trajectories. The report is kept beside the files; a report on the same files
and corpus is read, not made again. Each file is loaded in a worker of its own, closed before the next one starts.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from koboshi_runtime.files import replace_file
from koboshi_runtime.model import Piece, PromptProfile
from koboshi_runtime.workermodel import WorkerModel, WorkerSettings
from koboshi_tools import hash_value

from .adapter import read_adapter
from .corpus import HALF_TOKENS, SEQUENCE_TOKENS, load_prose, make_corpus
from .export import ExportManifest
from .gguf.read import read_gguf
from .parity import Corpus, ExportedFile, FileKind, Logits, ParityReport, parity
from .reference import reference_logits
from .rows import Example

PARITY_FILE = "parity.json"
_SCRATCH = "parity-logits"
_KINDS: tuple[FileKind, ...] = ("f16", "q8_0")
_SETTINGS = WorkerSettings(context_tokens=SEQUENCE_TOKENS, parallel=1)


async def measure_parity(
    master: Path, adapter: Path, folder: Path, held_out: Sequence[Example], *, profile: PromptProfile
) -> ParityReport:
    """Return the report on the export in `folder`, and keep it there. Raises ModelError if a file does not load."""
    exported = ExportManifest.model_validate_json((folder / "export.json").read_bytes())
    stages = [exported.stage(kind) for kind in _KINDS]
    corpus = await _corpus(folder / stages[0].file, stages[0].file_hash, held_out, profile)
    if kept := _kept(folder, hash_value(corpus), [stage.file_hash for stage in stages]):
        return kept
    with _scratch(folder / _SCRATCH) as scratch:
        files = []
        for kind, stage in zip(_KINDS, stages, strict=True):
            path = folder / stage.file
            logits = await _worker_logits(path, stage.file_hash, corpus, scratch, profile)
            files.append(ExportedFile(kind, path, logits))
        deltas = read_adapter(adapter, read_gguf(master))
        report = parity(reference_logits(master, adapter), files, corpus, master=master, adapter=deltas)
    replace_file(folder / PARITY_FILE, (report.model_dump_json(indent=2) + "\n").encode())
    return report


def trajectory_ids(examples: Iterable[Example]) -> list[tuple[int, ...]]:
    """Return the ends of `examples` as ids: their beginnings are one prefix, their ends are what was learnt."""
    found = []
    for example in examples:
        user = example.users[min(example.users)]
        ids = (*example.prefix_ids, *user, *(token for span in example.spans for token in span.ids))
        found.append(ids[-SEQUENCE_TOKENS:])
    return found


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Make a folder for as long as the context lasts; what a killed measurement left there, often a GB, goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def _corpus(path: Path, file_hash: str, held_out: Sequence[Example], profile: PromptProfile) -> Corpus:
    model = await WorkerModel.start(path, _SETTINGS, model_hash=file_hash, name=path.stem, profile=profile)
    try:
        prose = await model.tokenize((Piece(text=load_prose()),))
        begin = () if model.begin_id is None else (model.begin_id,)
    finally:
        await model.close()
    return make_corpus(lambda _: prose, trajectory_ids(held_out), begin_ids=begin, half_tokens=HALF_TOKENS)


async def _worker_logits(path: Path, file_hash: str, corpus: Corpus, scratch: Path, profile: PromptProfile) -> Logits:
    model = await WorkerModel.start(path, _SETTINGS, model_hash=file_hash, name=path.stem, profile=profile)
    places = {ids: scratch / f"{path.name}-{number}.npy" for number, ids in enumerate(corpus)}
    try:
        for ids, place in places.items():
            await model.logits(ids, place)
    finally:
        await model.close()

    def logits(ids: Sequence[int]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.load(places[tuple(ids)], mmap_mode="r")
        return found

    return logits


def _kept(folder: Path, corpus_hash: str, file_hashes: Sequence[str]) -> ParityReport | None:
    try:
        report = ParityReport.model_validate_json((folder / PARITY_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    same = report.corpus_hash == corpus_hash and [file.file_hash for file in report.files] == list(file_hashes)
    return report if same else None
