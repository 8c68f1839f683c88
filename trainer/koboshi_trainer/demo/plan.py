"""The sizes of the demo: how much is shown, played, trained and measured, in one place.

The standard plan is sized for less than twenty minutes on two quiet cores after installation; `quick` only walks the
path and proves nothing. Equal plans and seeds give the same demo.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import NamedTuple

from koboshi_runtime.config_values import DEFAULT_MODEL, TrainSettings
from koboshi_runtime.estimate_night import contrast_cost
from koboshi_tools import hash_value

from ..dataset import DatasetSettings
from ..fit_values import FitSettings
from ..identity import identity
from ..methods import Method, Weights
from ..schedule import planned_steps
from ..train_settings import dataset_settings, fit_plan
from ..tries import Tries

# Measured on two slow cores (Zen 4, no AMX) with SmolLM2-135M and llama.cpp's own kernels: runs of `shop`, of an
# untrained model that is shown examples, and rows of training, prefixes shared; a row that is contrasted counts nearly
# twice.
_RUNS_PER_S = 1.8
_SHOWN_RUNS_PER_S = 0.8
_ROWS_PER_S = 1.6
_CONTRASTED = 1.9
# What near-duplicates, caps and the held-out tenth leave of the own runs.
_LEFT = 0.25
_EXPORT_S = 15.0
_WEIGHTS = 135e6
_PARITY_S = 45.0


class StageName(StrEnum):
    """The demo's stages in their order; each is kept when it is done."""

    MODEL = "model"
    PROJECT = "project"
    LIVE = "live"
    UNTRAINED = "untrained"
    DEMONSTRATIONS = "demonstrations"
    FEW_SHOT = "few-shot"
    SEED_TRAINING = "seed-training"
    ROLLOUTS = "rollouts"
    LOOP_TRAINING = "loop-training"
    SEEDED = "seeded"
    AFTER = "after"
    CONDITIONS = "conditions"


TITLES: Mapping[StageName, str] = {
    StageName.MODEL: "Get the model",
    StageName.PROJECT: "Make the project",
    StageName.LIVE: "Watch the untrained model at one task",
    StageName.UNTRAINED: "Measure the untrained model",
    StageName.DEMONSTRATIONS: "Play solved examples",
    StageName.FEW_SHOT: "Measure the untrained model with examples in its prompt",
    StageName.SEED_TRAINING: "Train on the solved examples, prove the file, gate against the untrained model",
    StageName.ROLLOUTS: "Let the current model try train tasks",
    StageName.LOOP_TRAINING: "Train on successes and failures, prove the file, gate against the current model",
    StageName.SEEDED: "Measure the seeded model",
    StageName.AFTER: "Measure the candidate",
    StageName.CONDITIONS: "Ask both for a failure",
}


# Eight rows of `shop` and their prefix fit into so many positions.
_MICRO_TOKENS = 2304


def _seed_fit() -> FitSettings:
    return FitSettings(learning_rate=1e-3, epochs=3.0, batch_rows=8, micro_tokens=_MICRO_TOKENS)


def _loop_fit() -> FitSettings:
    # The recipe of the lab's chains (decision 0075), as a night has it.
    return fit_plan(TrainSettings(micro_tokens=_MICRO_TOKENS), weights=_WEIGHTS).settings


def _loop_dataset() -> DatasetSettings:
    return dataset_settings(TrainSettings())


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """Every size of a demo.

    `examples` is how many solved tasks the few-shot prompt shows. `shape_tasks` are of the second test set, which asks
    what training never asks; `condition_tasks` are run once more under the failure condition. `context_tokens` is of
    one run, `parallel` how many run at once. The gate of the seeded model asks `seed_gate_tasks`, for what it has to
    show is large; that of the loop `gate_tasks`.
    """

    source: str = DEFAULT_MODEL
    test_tasks: int = 56
    shape_tasks: int = 12
    condition_tasks: int = 24
    examples: int = 3
    demonstrations: int = 80
    seed_fit: FitSettings = field(default_factory=_seed_fit)
    rollout_tasks: int = 84
    tries: Tries = Tries(samples=1, temperature=0.8, retries=2)
    dataset: DatasetSettings = field(default_factory=_loop_dataset)
    weights: Weights = field(default_factory=Weights)
    loop_fit: FitSettings = field(default_factory=_loop_fit)
    seed_gate_tasks: int = 56
    gate_tasks: int = 160
    context_tokens: int = 2048
    parallel: int = 16

    @classmethod
    def quick(cls) -> "DemoPlan":
        """Return a plan that walks every stage in a few minutes and proves nothing."""
        return cls(
            test_tasks=12,
            shape_tasks=4,
            condition_tasks=4,
            examples=1,
            demonstrations=16,
            seed_fit=FitSettings(learning_rate=1e-3, optimizer_steps=2, batch_rows=4),
            rollout_tasks=6,
            loop_fit=FitSettings(learning_rate=1e-3, optimizer_steps=2, batch_rows=4),
            seed_gate_tasks=8,
            gate_tasks=8,
        )


class Training(NamedTuple):
    """One of the two trainings: the end of its model's name, and how it is made."""

    name: str
    method: Method
    fit: FitSettings
    gate_tasks: int


def trainings(plan: DemoPlan) -> dict[StageName, Training]:
    """Return the trainings of a demo by their stages."""
    return {
        StageName.SEED_TRAINING: Training("seeded", Method.SUCCESS, plan.seed_fit, plan.seed_gate_tasks),
        StageName.LOOP_TRAINING: Training("after", Method.NAT, plan.loop_fit, plan.gate_tasks),
    }


def plan_hash(plan: DemoPlan, pack: str, seed: int) -> str:
    """Return the hash that names a demo: its plan, its pack and its seed."""
    settings = {"dataset": plan.dataset, "seed_fit": plan.seed_fit, "loop_fit": plan.loop_fit}
    sizes = {name: value for name, value in asdict(plan).items() if name not in settings}
    dumped = {name: identity(value) for name, value in settings.items()}
    return hash_value({**sizes, **dumped, "pack": pack, "seed": seed})


def estimates(plan: DemoPlan) -> dict[StageName, float]:
    """Return the seconds that each stage is expected to take on two cores."""
    evaluated = plan.test_tasks + plan.shape_tasks
    evaluation, shown = evaluated / _RUNS_PER_S + 3, evaluated / _SHOWN_RUNS_PER_S + 3
    around = 15 + _EXPORT_S + _PARITY_S
    # About half of the tasks are solved by none of their tries.
    own = plan.rollout_tasks * (plan.tries.samples + plan.tries.retries / 2)
    return {
        StageName.MODEL: 10,
        StageName.PROJECT: 2,
        StageName.LIVE: 8,
        StageName.UNTRAINED: evaluation,
        StageName.DEMONSTRATIONS: 5 + plan.demonstrations / 60,
        StageName.FEW_SHOT: shown,
        StageName.SEED_TRAINING: around
        + 2 * plan.seed_gate_tasks / _RUNS_PER_S
        + _fit_s(plan.seed_fit, plan.demonstrations),
        StageName.ROLLOUTS: own / _RUNS_PER_S,
        StageName.LOOP_TRAINING: around
        + 2 * plan.gate_tasks / _RUNS_PER_S
        + _fit_s(plan.loop_fit, plan.demonstrations, _LEFT * own),
        StageName.SEEDED: evaluation,
        StageName.AFTER: evaluation,
        StageName.CONDITIONS: 2 * plan.condition_tasks / _RUNS_PER_S + 5,
    }


def _fit_s(settings: FitSettings, shown: int, own: float = 0.0) -> float:
    """Return the seconds of a fit on rows of demonstrations and of own runs, which alone are contrasted."""
    steps = planned_steps(round(shown + own), settings)
    assert steps is not None, "no fit of a demo ends by a number of tokens"
    passes = steps * settings.batch_rows / (shown + own)
    longer = contrast_cost(_CONTRASTED, weight=settings.contrast, begins=settings.contrast_from)
    return passes * (shown + longer * own) / _ROWS_PER_S
