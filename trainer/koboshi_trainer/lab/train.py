"""From rows to a measured model file: fit, export, guards, all in one folder that is whole or not taken for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_runtime.files import replace_file
from koboshi_tools import Frozen

from .. import lora
from ..adapter import read_adapter
from ..fit_file import fit_file, load_for
from ..fit_values import FitProgress, FitReport, FitSettings
from ..gguf.read import read_gguf
from ..guards import Guards, measure_guards
from ..kept import KeptUpdate, is_zero, measure_kept
from ..rows import Example, TokenRow
from ..stages import export_adapter

_MADE_FILE = "made.json"


class _Made(Frozen):
    """What a folder holds, written when all of it is there."""

    model_hash: str
    fit: FitReport
    guards: Guards | None
    kept: KeptUpdate | None


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model: `file` is the quantised one, `f16` what later fits may start from."""

    file: Path
    f16: Path
    model_hash: str
    fit: FitReport
    guards: Guards | None
    kept: KeptUpdate | None

    @classmethod
    def read(cls, folder: Path) -> "Trained | None":
        """Return the model of a folder, or None if it is not whole."""
        path = folder / _MADE_FILE
        if not path.exists():
            return None
        made = _Made.model_validate_json(path.read_bytes())
        files = folder / "export"
        return cls(
            files / "model.q8_0.gguf", files / "model.f16.gguf", made.model_hash, made.fit, made.guards, made.kept
        )


def train_model(
    start: Path,
    rows: Sequence[TokenRow],
    held_out: Sequence[Example],
    settings: FitSettings,
    folder: Path,
    *,
    tell: Callable[[float], None],
) -> Trained:
    """Fit an adapter for the F16 file `start`, export it, and measure its guards on `held_out`.

    Called again after a kill it goes on from the fit's checkpoint.
    """

    def on_progress(told: FitProgress) -> None:
        tell(told.optimizer_step / told.optimizer_steps)

    model = load_for(start, settings)
    report = fit_file(start, model, rows, settings, folder / "adapter", progress=on_progress)
    made = export_adapter(start, folder / "adapter", folder / "export", run_id=folder.name)
    update = read_adapter(folder / "adapter", read_gguf(start))
    quantised = folder / "export" / made.stage("q8_0").file
    whole = _Made(
        model_hash=made.stage("q8_0").file_hash,
        fit=report,
        guards=measure_guards(model, lora.load_state(folder / "adapter"), held_out, settings),
        kept=None if is_zero(update) else measure_kept(start, update, quantised),
    )
    replace_file(folder / _MADE_FILE, whole.model_dump_json().encode())
    found = Trained.read(folder)
    assert found is not None, f"{folder} was written just now"
    return found
