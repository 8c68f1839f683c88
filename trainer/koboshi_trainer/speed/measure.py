"""How fast the trainer is: beside TRL's on the same rows, and beside what this machine's matrix products allow.

Each side trains in a process of its own, so that its peak memory is its own, with the same LoRA (rank 32 on every
linear layer of the body), the same rows and the same rows an optimizer step, for one epoch. Tokens a second count every
row's ids with its prefix, never padding; ours may compute a shared prefix once, and says how many positions it really
computed.

Floating-point operations of one optimizer step, forward and backward through frozen weights (`operations`):

    body       4 a weight and position     (2 forward, 2 for the gradient of the input; the weight has none)
    LoRA       6 a parameter and position  (2 forward, 4 for both gradients)
    attention  12 · layers · heads · head size a pair of positions that see each other (4 forward, 8 backward)
    output     4 a weight and learnt id    (2 forward, 2 backward)

The attainable rate is these operations over the measured bf16 product speed of this model's own shapes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from koboshi_tools import Frozen, KoboshiError

from ..rows import TokenRow

Side = Literal["koboshi", "trl"]
_POSITIONS = 1024  # rows of the measured products: about a micro-batch
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class SpeedSettings:
    """What both sides are given; `micro_rows` is TRL's rows a device step."""

    r: int = 32
    alpha: float = 64.0
    learning_rate: float = 3e-4
    batch_rows: int = 16
    micro_rows: int = 16
    loss_type: str = "nll"
    threads: int = 2


class SideSpeed(Frozen):
    """One side's epoch; `peak_bytes` is of its whole process, `computed_tokens` without padding where it is known."""

    side: str
    variant: str
    tokens: int
    learnt_tokens: int
    computed_tokens: int | None
    optimizer_steps: int
    seconds: float
    tokens_per_s: float
    peak_bytes: int
    loss_first: float
    loss_last: float


class Attainable(Frozen):
    """What the matrix products alone would allow: operations, their measured speed, and tokens a second from both."""

    operations: float
    product_flops_per_s: float
    tokens_per_s: float


def measure_side(
    side: Side, master: Path, rows: Sequence[TokenRow], settings: SpeedSettings, *, timeout_s: float = 3600
) -> SideSpeed:
    """Train one epoch in a child process and return its speed. Raises KoboshiError if the child fails."""
    with tempfile.TemporaryDirectory(prefix="koboshi-speed-") as folder:
        job = Path(folder) / "job.json"
        plain = [[row.prefix_ids, row.ids, row.learn] for row in rows]
        job.write_text(json.dumps({"master": str(master), "rows": plain, "settings": asdict(settings)}), "utf-8")
        command = [sys.executable, "-m", "koboshi_trainer.speed.child", side, str(job)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(settings.threads)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise KoboshiError(f"training with {side} ended with {done.returncode}: {last}")
    return SideSpeed.model_validate_json(lines[-1])


def attainable(model: Any, rows: Sequence[TokenRow], *, r: int) -> Attainable:
    """Return what this machine allows for `rows`, every row computed by itself."""
    total = operations(model, rows, r=r)
    speed = product_speed(model)
    tokens = sum(len(row.prefix_ids) + len(row.ids) for row in rows)
    return Attainable(operations=total, product_flops_per_s=speed, tokens_per_s=tokens * speed / total)


def operations(model: Any, rows: Sequence[TokenRow], *, r: int) -> float:
    """Return the floating-point operations of one epoch on `rows` by the formula of this module."""
    config, shapes = model.config, linear_shapes(model)
    weights = sum(out * into for out, into in shapes)
    low_rank = sum(r * (out + into) for out, into in shapes)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 12 * config.num_hidden_layers * config.num_attention_heads * head_size
    head = config.vocab_size * config.hidden_size
    total = 0.0
    for row in rows:
        length = len(row.prefix_ids) + len(row.ids)
        total += length * (4 * weights + 6 * low_rank) + attention * length * (length + 1) / 2 + 4 * head * row.learnt
    return total


def linear_shapes(model: Any) -> list[tuple[int, int]]:
    """Return (out, in) of every linear layer of the body."""
    head = model.get_output_embeddings()
    modules = (module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head)
    return [(module.out_features, module.in_features) for module in modules]


def product_speed(model: Any, dtype: torch.dtype = torch.bfloat16) -> float:
    """Return the operations a second of this model's own products, in the mix in which a layer needs them."""
    shapes = linear_shapes(model)
    seconds = {shape: _product_seconds(shape, dtype) for shape in set(shapes)}
    done = sum(2.0 * _POSITIONS * out * into for out, into in shapes)
    return done / sum(seconds[shape] for shape in shapes)


def _product_seconds(shape: tuple[int, int], dtype: torch.dtype) -> float:
    out, into = shape
    left = torch.randn(_POSITIONS, into).to(dtype)
    right = torch.randn(out, into).to(dtype)
    best = float("inf")
    for _ in range(_REPEATS + 1):  # the first pass prepares the kernel
        start = time.perf_counter()
        left @ right.T
        best = min(best, time.perf_counter() - start)
    return best
