"""Hold freshly compiled kernels against numpy, on sizes that reach every tail: what differs is not used.

A compiler that leaves something out, as one did with llama.cpp's own, is found here and not in what a model writes.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = np.dtype([("d", "<f2"), ("qs", "i1", (32,))])
_PRODUCTS = ((16, 4, 1, 1), (17, 5, 3, 2), (1, 9, 2, 1), (100, 23, 18, 3), (64, 2, 6, 2), (35, 1, 5, 2))
"""Rows, columns, blocks, threads."""

_ATTENTIONS = ((2, 32, 1, 1, 64, 1), (5, 48, 3, 3, 64, 2), (3, 32, 2, 5, 64, 2), (4, 16, 2, 4, 128, 3))
"""Tokens, cells, heads of keys, query heads a head of keys, numbers a head, threads."""

_NEAR = 1e-5
"""As a part of the largest number: float32 sums of some hundred terms."""


class AttentionFields(ctypes.Structure):
    """`koboshi_attention` of `kernels.h`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "cells", "heads", "shared", "size")),
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "mask", "out")),
        *((f"q_{of}", ctypes.c_int64) for of in ("token", "head")),
        *((f"{what}_{of}", ctypes.c_int64) for what in ("k", "v") for of in ("cell", "head")),
        *((name, ctypes.c_int64) for name in ("mask_token", "out_token", "out_head")),
        ("scale", ctypes.c_float),
    )


def wrong(library: ctypes.CDLL) -> str | None:
    """Return the first computation that is not what numpy makes of it, in words; None if all are."""
    chance = np.random.default_rng(0)
    for product in _PRODUCTS:
        if (apart := product_error(library, chance, *product)) > _NEAR:
            return f"products of {product} are off by {apart:.1e} of the largest number"
    for attention in _ATTENTIONS:
        if (apart := attention_error(library, chance, *attention)) > _NEAR:
            return f"attention of {attention} is off by {apart:.1e} of the largest number"
    return None


def product_error(
    library: ctypes.CDLL, chance: np.random.Generator, rows: int, columns: int, blocks: int, threads: int
) -> float:
    """Return how far off a product is, as a part of its largest number; infinite where it wrote beside its rows."""
    call = library.koboshi_multiply
    call.restype = ctypes.c_bool
    call.argtypes = [ctypes.c_int] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p, ctypes.c_int64] * 3
    a, b = _blocks(chance, rows, blocks), _blocks(chance, columns, blocks)
    found = np.full((columns, rows + 3), np.inf, dtype=np.float32)
    for thread in range(threads):
        sides = (a.ctypes.data, blocks, b.ctypes.data, blocks, found.ctypes.data, rows + 3)
        if not call(thread, threads, rows, columns, blocks, *sides):
            return float("inf")
    if not np.isinf(found[:, rows:]).all():
        return float("inf")
    return _apart(found[:, :rows], _numbers(b) @ _numbers(a).T)


def attention_error(
    library: ctypes.CDLL,
    chance: np.random.Generator,
    tokens: int,
    cells: int,
    heads: int,
    shared: int,
    size: int,
    threads: int,
) -> float:
    """Return how far off an attention is, as a part of its largest number; the last token sees one cell only."""
    call = library.koboshi_attend
    call.restype = None
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(AttentionFields)]
    q = chance.normal(0, 2, (tokens, heads * shared, size)).astype(np.float32)
    k, v = (chance.normal(0, 1, (cells, heads, size)).astype(np.float16) for _ in range(2))
    mask = np.where(chance.random((tokens, cells)) < 0.5, 0, -np.inf).astype(np.float16)
    mask[-1], mask[:, 0] = -np.inf, 0
    found = np.full_like(q, np.inf)
    about = AttentionFields(
        tokens, cells, heads, shared, size, q.ctypes.data, k.ctypes.data, v.ctypes.data, mask.ctypes.data,
        found.ctypes.data, *q.strides[:2], *k.strides[:2], *v.strides[:2], mask.strides[0], *found.strides[:2],
        size**-0.5,
    )  # fmt: skip
    for thread in range(threads):
        call(thread, threads, about)
    return _apart(found, _attention(q, k, v, mask))


def _attention(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.float64]:
    shared = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(side.astype(np.float64), shared, axis=1) for side in (k, v))
    scores = np.einsum("thd,chd->htc", q.astype(np.float64), keys) * q.shape[2] ** -0.5 + mask.astype(np.float64)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    found: NDArray[np.float64] = np.einsum("htc,chd->thd", weights / weights.sum(axis=2, keepdims=True), values)
    return found


def _blocks(chance: np.random.Generator, rows: int, blocks: int) -> NDArray[Any]:
    made = np.zeros((rows, blocks), _BLOCK)
    made["d"] = chance.normal(0, 0.01, made.shape)
    made["qs"] = chance.integers(-128, 128, (*made.shape, 32))
    return made


def _numbers(blocks: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (blocks["d"][..., None].astype(np.float64) * blocks["qs"]).reshape(len(blocks), -1)
    return found


def _apart(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
