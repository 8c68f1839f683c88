"""The sizes of the demo: how much is shown, played, trained and measured, in one place.

The standard plan is sized for less than twenty minutes on two quiet cores after installation; `quick` only walks the
path and proves nothing. Equal plans and seeds give the same demo.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from koboshi_runtime.config_values import DEFAULT_MODEL
from koboshi_tools import hash_value

from ..dataset import DatasetSettings
from ..duplicates import Caps
from ..fit_values import FitSettings
from ..identity import identity
from ..methods import Weights
from ..tries import Tries

# Measured on two cores with SmolLM2-135M: runs of `shop` and rows of training, prefixes shared.
_RUNS_PER_S = 2.2
_ROWS_PER_S = 2.0
_EXPORT_S = 15.0
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


def _seed_fit() -> FitSettings:
    return FitSettings(learning_rate=1e-3, epochs=3.0, batch_rows=8)


def _loop_fit() -> FitSettings:
    return FitSettings(learning_rate=1e-3, epochs=2.0, batch_rows=8, tasks_together=True)


def _loop_dataset() -> DatasetSettings:
    # What the lab log's round of 2026-11-28 found to teach as much as all rows do, at less than half the cost.
    return DatasetSettings(caps=Caps(failures_per_success=1.0, sure_share=0.1, pairs_first=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """Every size of a demo.

    `examples` is how many solved tasks the few-shot prompt shows. `shape_tasks` are of the second test set, which asks
    what training never asks; `condition_tasks` are run once more under the failure condition. `context_tokens` is of
    one run, `parallel` how many run at once.
    """

    source: str = DEFAULT_MODEL
    test_tasks: int = 80
    shape_tasks: int = 16
    condition_tasks: int = 40
    examples: int = 3
    demonstrations: int = 100
    seed_fit: FitSettings = field(default_factory=_seed_fit)
    rollout_tasks: int = 200
    tries: Tries = Tries(samples=2, temperature=0.8)
    dataset: DatasetSettings = field(default_factory=_loop_dataset)
    weights: Weights = field(default_factory=Weights)
    loop_fit: FitSettings = field(default_factory=_loop_fit)
    gate_tasks: int = 100
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
            gate_tasks=8,
        )


def plan_hash(plan: DemoPlan, pack: str, seed: int) -> str:
    """Return the hash that names a demo: its plan, its pack and its seed."""
    settings = {"dataset": plan.dataset, "seed_fit": plan.seed_fit, "loop_fit": plan.loop_fit}
    sizes = {name: value for name, value in asdict(plan).items() if name not in settings}
    dumped = {name: identity(value) for name, value in settings.items()}
    return hash_value({**sizes, **dumped, "pack": pack, "seed": seed})


def estimates(plan: DemoPlan) -> dict[StageName, float]:
    """Return the seconds that each stage is expected to take on two cores."""
    evaluation = (plan.test_tasks + plan.shape_tasks) / _RUNS_PER_S + 3
    round_s = 15 + _EXPORT_S + _PARITY_S + 2 * plan.gate_tasks / _RUNS_PER_S
    own = plan.rollout_tasks * plan.tries.samples
    return {
        StageName.MODEL: 10,
        StageName.PROJECT: 2,
        StageName.LIVE: 8,
        StageName.UNTRAINED: evaluation,
        StageName.DEMONSTRATIONS: 5 + plan.demonstrations / 60,
        StageName.FEW_SHOT: evaluation,
        StageName.SEED_TRAINING: round_s + _fit_s(plan.seed_fit, plan.demonstrations),
        StageName.ROLLOUTS: own / _RUNS_PER_S,
        # Near-duplicates and caps leave about a third of the own runs.
        StageName.LOOP_TRAINING: round_s + _fit_s(plan.loop_fit, plan.demonstrations + own // 3),
        StageName.SEEDED: evaluation,
        StageName.AFTER: evaluation,
        StageName.CONDITIONS: 2 * plan.condition_tasks / _RUNS_PER_S + 5,
    }


def _fit_s(settings: FitSettings, rows: int) -> float:
    passes = rows * settings.epochs
    if settings.optimizer_steps is not None:
        passes = settings.optimizer_steps * settings.batch_rows
    return passes / _ROWS_PER_S
