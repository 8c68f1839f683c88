"""What trainings and nights say while they work: each stage as it begins, and now and then how much is left of it."""

import time
from collections.abc import Mapping

from koboshi_runtime.cli.context import progress

from ..fit_values import FitProgress
from ..pipeline import Listener

_EVERY_S = 5.0
_TITLES: Mapping[str, str] = {
    "select": "select: choosing what to try",
    "rollouts": "rollouts: trying train tasks",
    "build": "build: freezing what runs did",
    "fit": "fit: training an adapter",
    "export": "export: making the model's files",
    "parity": "parity: is the file the model that was trained?",
    "report": "report: writing down what became of it",
    "gate": "gate: is it better than the current model?",
}


class Teller:
    """Prints lines on stderr; `listener` is what the pipeline tells."""

    def __init__(self) -> None:
        self._told = self._began = time.monotonic()
        self.listener = Listener(on_stage=self._stage, on_fit=self._fit, on_gate=self._gate)

    def _stage(self, stage: str) -> None:
        self._told = self._began = time.monotonic()
        progress(_TITLES[stage])

    def _fit(self, found: FitProgress) -> None:
        if self._due(last=found.optimizer_step == found.optimizer_steps):
            steps = f"optimizer step {found.optimizer_step} of {found.optimizer_steps}"
            progress(f"  {steps}, loss {found.loss:.3f}, {_left(found.remaining_s)}")

    def _gate(self, side: str, done: int, wanted: int) -> None:
        if self._due(last=done == wanted):
            finished = done + (wanted if side == "candidate" else 0)
            seconds = (time.monotonic() - self._began) * (2 * wanted - finished) / finished
            progress(f"  {side}: {done} of {wanted} tasks, {_left(seconds)}")

    def _due(self, *, last: bool) -> bool:
        now = time.monotonic()
        if now - self._told < _EVERY_S and not last:
            return False
        self._told = now
        return True


def _left(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
