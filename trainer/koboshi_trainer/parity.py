"""Prove that an exported file is the model that was trained.

Two questions. Does llama.cpp, reading the file, predict what torch predicts in float32 from the trained weights? And is
the update still in the file, or did the quantisation's grid swallow it? The second is asked of the weights themselves,
because a small update that was lost leaves the predictions near enough to pass the first.

A file that fails is not an exception: the report says `passed` False, with every number and the reasons. What could not
be measured has failed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from koboshi_tools import Frozen, hash_file, hash_value

from .adapter import LoraDelta
from .kept import KeptUpdate, is_zero, measure_kept, same_tensors

Logits = Callable[[Sequence[int]], NDArray[np.float32]]
Corpus = tuple[tuple[int, ...], ...]
FileKind = Literal["f16", "q8_0", "adapter"]

# Where torch itself hesitates between two tokens, a rounding may decide: a position is clear where the reference's
# first token is more probable than its second by more than this.
CLEAR_GAP = 0.1
KEPT_FLOOR = 0.9
# Rows compared at once: 32 of a vocabulary of 262,144 are 64 MiB in float64.
_ROWS = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file must reach; `kld` in nats, shares from 0 to 1, `clear_top1` among positions with a clear gap."""

    kld: float
    top1: float | None = None
    clear_top1: float | None = None


LIMITS: Mapping[FileKind, Limits] = {
    "f16": Limits(kld=1e-3, top1=0.995),
    "q8_0": Limits(kld=1e-2, clear_top1=0.98),
    # The adapter on the F16 master loses nothing either.
    "adapter": Limits(kld=1e-3, top1=0.995),
}


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file to be judged, and what llama.cpp makes of ids with it: `(ids, vocabulary)` float32."""

    kind: FileKind
    path: Path
    logits: Logits


class Agreement(Frozen):
    """How near a file's predictions are: KL divergence in nats from the reference, and shares of equal first choice.

    `clear_top1` is the share where the reference's first two differ by more than 0.1 in probability; `clear_top1_log`
    where they differ by more than 0.1 in log-probability, a wider and stricter choice of positions, for the record.
    """

    positions: int
    kld: float
    kld_worst: float
    top1: float
    clear_positions: int
    clear_top1: float
    clear_top1_log: float


class FileParity(Frozen):
    """One file's numbers. `equal` is asked of a zero LoRA's F16 file only, `kept` of a merged file with an update."""

    kind: FileKind
    file_hash: str
    agreement: Agreement | None
    equal: bool | None = None
    kept: KeptUpdate | None = None
    reasons: tuple[str, ...] = ()


class ParityReport(Frozen):
    """All files of one export on one corpus; `reasons` is empty where `passed`."""

    corpus_hash: str
    sequences: int
    tokens: int
    zero_update: bool
    files: tuple[FileParity, ...]
    passed: bool
    reasons: tuple[str, ...]


def parity(
    reference: Logits,
    files: Sequence[ExportedFile],
    corpus: Corpus,
    *,
    master: Path,
    adapter: Mapping[str, LoraDelta],
) -> ParityReport:
    """Judge `files` against `reference` on `corpus`, and their weights against `master` plus `adapter`."""
    zero = is_zero(adapter)
    agreements = _agreements(reference, files, corpus)
    judged = tuple(
        _judge(file, agreement, master, adapter, zero) for file, agreement in zip(files, agreements, strict=True)
    )
    reasons = tuple(f"{file.kind}: {reason}" for file in judged for reason in file.reasons)
    if not judged:
        reasons = ("no file was given",)
    return ParityReport(
        corpus_hash=hash_value(corpus),
        sequences=len(corpus),
        tokens=sum(map(len, corpus)),
        zero_update=zero,
        files=judged,
        passed=not reasons,
        reasons=reasons,
    )


def _judge(
    file: ExportedFile, agreement: Agreement | None, master: Path, adapter: Mapping[str, LoraDelta], zero: bool
) -> FileParity:
    merged = file.kind != "adapter"
    kept = measure_kept(master, adapter, file.path) if merged and not zero else None
    equal = same_tensors(master, file.path) if file.kind == "f16" and zero else None
    reasons = [*_agreement_reasons(agreement, LIMITS[file.kind]), *_kept_reasons(kept)]
    if equal is False:
        reasons.append("the update is zero, but the tensors differ from the master's")
    return FileParity(
        kind=file.kind,
        file_hash=hash_file(file.path),
        agreement=agreement,
        equal=equal,
        kept=kept,
        reasons=tuple(reasons),
    )


def _agreement_reasons(found: Agreement | None, limits: Limits) -> Iterator[str]:
    # Each is written as "not good", so that a number that is not a number fails.
    if found is None:
        yield "nothing to compare on, or logits of another shape or not finite"
        return
    if not found.kld <= limits.kld:
        yield f"KL divergence {found.kld:.2e} is over {limits.kld:.0e}"
    if limits.top1 is not None and not found.top1 >= limits.top1:
        yield f"first choice is the same at {found.top1:.2%} of positions, under {limits.top1:.1%}"
    if limits.clear_top1 is not None and not found.clear_top1 >= limits.clear_top1:
        yield f"first choice is the same at {found.clear_top1:.2%} of clear positions, under {limits.clear_top1:.1%}"


def _kept_reasons(kept: KeptUpdate | None) -> Iterator[str]:
    if kept is None:
        return
    if not kept.total >= KEPT_FLOOR:
        yield f"{kept.total:.1%} of the update was kept, under {KEPT_FLOOR:.0%}"
    if not kept.worst >= KEPT_FLOOR:
        yield f"{kept.worst:.1%} of the update of {kept.worst_tensor} was kept, under {KEPT_FLOOR:.0%}"


def _agreements(reference: Logits, files: Sequence[ExportedFile], corpus: Corpus) -> list[Agreement | None]:
    measured: list[list[NDArray[np.float64]]] = [[] for _ in files]
    broken: set[int] = set()
    for ids in corpus:
        wanted = reference(ids)
        for index, file in enumerate(files):
            found = file.logits(ids)
            if found.shape == wanted.shape and np.isfinite(found).all():
                measured[index].append(_compare(wanted, found))
            else:
                broken.add(index)
    return [None if index in broken else _agreement(parts) for index, parts in enumerate(measured)]


def _compare(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (positions, 4): divergence, 1 for the same first choice, gap of the first two, the same in logarithms."""
    starts = range(0, len(wanted), _ROWS)
    return np.concatenate([_compare_rows(wanted[at : at + _ROWS], found[at : at + _ROWS]) for at in starts])


def _compare_rows(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float64]:
    p, q = _log_softmax(wanted), _log_softmax(found)
    second, first = np.partition(p, -2, axis=1)[:, -2:].T
    divergence = (np.exp(p) * (p - q)).sum(axis=1)
    same = p.argmax(axis=1) == q.argmax(axis=1)
    return np.stack([divergence, same.astype(np.float64), np.exp(first) - np.exp(second), first - second], axis=1)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def _agreement(parts: Sequence[NDArray[np.float64]]) -> Agreement | None:
    if not parts:
        return None
    divergence, same, gap, log_gap = np.concatenate(parts).T
    return Agreement(
        positions=len(same),
        kld=float(divergence.mean()),
        kld_worst=float(divergence.max()),
        top1=float(same.mean()),
        clear_positions=int((gap > CLEAR_GAP).sum()),
        clear_top1=_share(same, gap > CLEAR_GAP),
        clear_top1_log=_share(same, log_gap > CLEAR_GAP),
    )


def _share(same: NDArray[np.float64], among: NDArray[np.bool_]) -> float:
    # Nothing clear to compare on is nothing proved.
    return float(same[among].mean()) if among.any() else 0.0
