"""Where torch computes: on which device, and in which number format.

A fit runs inside `on`: whatever it makes (ids, masks, optimizer state) is made on the device of its model. Only
processors have been tried; CUDA is written by torch's documentation.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from koboshi_tools import UsageError

_PRODUCT = (1024, 576, 1536)  # the feed-forward of a 135M model, the product that a fit spends most of its time in


def device_of(name: str) -> torch.device:
    """Return the device of that name, for `auto` the first CUDA device, else the processor.

    Raises UsageError for a name that torch does not know or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"there is no device {name!r} to train on: {reason}", hint="Leave it at auto.") from error
    return device


@contextmanager
def on(model: Any, device: torch.device) -> Iterator[None]:
    """Have `model` and all that is made meanwhile on `device`; the model comes back to where it was."""
    before = next(model.parameters()).device
    model.to(device)
    try:
        with device:
            yield
    finally:
        model.to(before)


def faster_dtype() -> torch.dtype:
    """Return bf16 or fp32, whichever the device multiplies faster; bf16 without the instructions for it is slow.

    Measured once for a process and device, so that all that it does with a model is in one format.
    """
    return _faster(str(torch.empty(0).device))


@cache
def _faster(device: str) -> torch.dtype:
    return min((torch.bfloat16, torch.float32), key=_product_seconds)


def _product_seconds(dtype: torch.dtype) -> float:
    rows, inner, columns = _PRODUCT
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
    best = math.inf
    for _ in range(4):  # the first pass prepares the kernel
        start = time.perf_counter()
        # Read back, because a GPU is told to multiply and does so later.
        float((left @ right)[0, 0])
        best = min(best, time.perf_counter() - start)
    return best
