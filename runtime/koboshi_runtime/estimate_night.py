"""How long a night would take here: operations over what this machine multiplies a second, as busy as it is.

Right to a factor of two or so. The shares of the machine's speed that training and runs reach were measured with
SmolLM2-135M on two cores with AVX512: a LoRA epoch made 4 operations a weight and token at about the speed of NumPy's
float32 product, and sixteen runs at once made 2 a weight and decoded token at a third of it.
"""

from time import perf_counter

import numpy as np

from koboshi_tools import Frozen

from .config_values import TrainSettings

CONTRASTED = 1.55
"""How much longer a fit takes with a contrast from its first step on, own runs computed twice; measured on `shop`."""

RUNS = 300
"""Runs that the night of the estimate learns from."""

_ROW_TOKENS = 265
_DECODED_TOKENS = 130
_TRAINING_SHARE = 1.0
_RUNNING_SHARE = 0.34
# Bytes written and hashed for each weight by master, merge and quantisation, at what one core hashes a second.
_FILE_BYTES, _HASHED_BYTES_A_SECOND = 11.0, 4e8
_SIDE = 1024
_REPEATS = 5
_HOUR = 3600.0


class NightHours(Frozen):
    """Hours of a night that learns from `RUNS` runs, by stage; `gate_tasks` are run once on each of two models."""

    gate_tasks: int
    training: float
    export: float
    gate: float

    @property
    def total(self) -> float:
        """All stages together."""
        return self.training + self.export + self.gate


def contrast_cost(whole: float, *, weight: float, begins: float) -> float:
    """Return how much longer a fit takes with a contrast of `weight` from the part `begins` of its steps on.

    `whole` is how much longer it takes with one from its first step on.
    """
    return 1 + (whole - 1) * (1 - begins) if weight else 1.0


def night_hours(weights: float, *, gate_tasks: int, train: TrainSettings, operations_a_second: float) -> NightHours:
    """Return how long a night of a model with so many weights takes at that speed."""
    passes = train.epochs * contrast_cost(CONTRASTED, weight=train.contrast, begins=train.contrast_from)
    training = 4 * weights * RUNS * _ROW_TOKENS * passes / (_TRAINING_SHARE * operations_a_second)
    gate = 2 * 2 * weights * gate_tasks * _DECODED_TOKENS / (_RUNNING_SHARE * operations_a_second)
    export = weights * _FILE_BYTES / _HASHED_BYTES_A_SECOND
    return NightHours(gate_tasks=gate_tasks, training=training / _HOUR, export=export / _HOUR, gate=gate / _HOUR)


def operations_a_second() -> float:
    """Return the operations a second of a float32 matrix product, the best of five, with all of NumPy's threads."""
    matrix = np.full((_SIDE, _SIDE), 0.5, dtype=np.float32)
    best = float("inf")
    for _ in range(_REPEATS):
        started = perf_counter()
        matrix @ matrix
        best = min(best, perf_counter() - started)
    return 2 * _SIDE**3 / best


def night_line(found: NightHours) -> str:
    """Return it in one line."""
    parts = f"training {found.training:.1f}, export {found.export:.1f}, gate {found.gate:.1f}"
    return f"a night on {RUNS} runs, {found.gate_tasks} gate tasks: about {found.total:.1f} hours ({parts})"
