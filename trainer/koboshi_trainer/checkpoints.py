"""The training checkpoint: everything a killed fit needs to go on as if nothing had happened.

One file, replaced atomically, so that there is always the last whole one or none. It names the fit that it belongs to
by a hash of rows, settings and base; one of another fit is not read. There is no random state in it: a fit draws
nothing after its start.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from koboshi_runtime.files import replace_file
from koboshi_tools import KoboshiError


@dataclass(slots=True)
class Progress:
    """Where a fit stands: optimizer steps done, the loss and gradient norm of each, tokens and seconds spent.

    `held_out` holds the held-out losses by class at each measurement; `best` the adapter that did best on them.
    """

    optimizer_step: int = 0
    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    tokens: int = 0
    computed_tokens: int = 0
    learnt_tokens: int = 0
    seconds: float = 0.0
    held_out: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = float("inf")
    best: dict[str, Tensor] | None = None


def save_checkpoint(path: Path, fit_hash: str, progress: Progress, *, adapter: Any, optimizer: Any) -> None:
    """Replace the checkpoint at `path`; power loss leaves the old one or this one."""
    content = {
        "fit_hash": fit_hash,
        "progress": {name: getattr(progress, name) for name in Progress.__slots__},
        "adapter": adapter,
        "optimizer": optimizer,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    replace_file(path, buffer.getvalue())


def load_checkpoint(path: Path, fit_hash: str) -> dict[str, Any] | None:
    """Return the checkpoint at `path`, `progress` as a Progress, or None if there is none.

    Raises KoboshiError if it belongs to another fit.
    """
    if not path.exists():
        return None
    content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    if content["fit_hash"] != fit_hash:
        raise KoboshiError(
            f"{path} is the checkpoint of another fit ({content['fit_hash'][:15]}, not {fit_hash[:15]})",
            hint="Rows, settings or base model have changed: train into another folder, or delete this one.",
        )
    content["progress"] = Progress(**content["progress"])
    return content
