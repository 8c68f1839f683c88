"""Fit an adapter for a model file, in this process alone or with others beside it, as the settings say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from koboshi_tools import hash_file

from .devices import device_of, faster_dtype
from .fit import HeldOut, fit
from .fit_values import FitReport, FitSettings, OnProgress
from .rows import TokenRow
from .team import Team, team_of
from .weights import load_model


@dataclass(frozen=True, slots=True)
class _Work:
    """What every process of a fit is given."""

    master: Path
    rows: Sequence[TokenRow]
    settings: FitSettings
    out_dir: Path
    base: str
    held_out: HeldOut

    def run(self, team: Team, model: Any, progress: OnProgress | None = None) -> FitReport:
        return fit(
            model,
            self.rows,
            self.settings,
            self.out_dir,
            base=self.base,
            held_out=self.held_out,
            progress=progress,
            team=team,
        )

    def __call__(self, team: Team) -> None:
        self.run(team, load_for(self.master, self.settings))


def load_for(master: Path, settings: FitSettings) -> Any:
    """Load the F16 file `master` as a fit with these settings needs it, in no more memory than that takes."""
    if settings.dtype == "auto":
        with device_of(settings.device):
            dtype = faster_dtype()
    else:
        dtype = getattr(torch, settings.dtype)
    return load_model(master, dtype, four_bit=settings.four_bit)


def fit_file(
    master: Path,
    model: Any,
    rows: Sequence[TokenRow],
    settings: FitSettings,
    out_dir: Path,
    *,
    held_out: HeldOut | None = None,
    progress: OnProgress | None = None,
) -> FitReport:
    """Train an adapter for the F16 file `master`, loaded here by `load_for` as `model`, in the folder `out_dir`.

    As `fit` otherwise. Of several processes the others load the file anew. Raises KoboshiError if one of them dies.
    """
    work = _Work(master, rows, settings, out_dir, hash_file(master), held_out or {})
    with team_of(settings.processes, work) as team:
        return work.run(team, model, progress)
