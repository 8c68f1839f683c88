"""What `[train]` of the configuration says, in the trainer's own terms: which rows, under which method, fitted how."""

import math

from koboshi_runtime.config_values import TrainSettings

from .dataset import DatasetSettings
from .duplicates import Caps
from .fit_values import FitSettings
from .methods import Assignment, Conditions, Method, Weights, loss_of
from .stages import FitPlan

# The rate that was measured, on SmolLM2-135M; larger models want smaller ones. At 1B this gives 3.7e-4, at 7B 1.4e-4.
_RATE, _WEIGHTS = 1e-3, 135e6
# Of a task that was run once nobody knows how sure it is.
_SURE_AFTER = 2


def learning_rate_for(weights: float) -> float:
    """Return the learning rate of a model with so many weights: it falls with their square root, a rule of thumb."""
    return _RATE * min(1.0, math.sqrt(_WEIGHTS / weights))


def dataset_settings(settings: TrainSettings) -> DatasetSettings:
    """Return what goes into a dataset."""
    caps = Caps(
        failures_per_success=settings.failures_per_success,
        sure_share=settings.sure_share,
        sure_after=_SURE_AFTER,
        pairs_first=True,
    )
    return DatasetSettings(caps=caps).naming(settings.classes)


def fit_plan(settings: TrainSettings, *, weights: float) -> FitPlan:
    """Return how a model with so many weights is fitted."""
    fit_settings = FitSettings(
        r=settings.rank,
        alpha=settings.alpha,
        learning_rate=settings.learning_rate or learning_rate_for(weights),
        epochs=settings.epochs,
        least_steps=settings.least_steps,
        batch_rows=settings.batch_rows,
        tasks_together=True,
        contrast=settings.contrast,
        contrast_from=settings.contrast_from if settings.contrast else 0.0,
        micro_tokens=settings.micro_tokens,
        checkpointing=settings.checkpointing,
        four_bit=settings.four_bit,
        device=settings.device,
        processes=settings.processes,
        seed=settings.seed,
    )
    method, conditions = Method(settings.method), Conditions(classes=settings.classes)
    assignment = Assignment(
        weights=Weights(half_life_days=settings.half_life_days),
        conditions=conditions,
        steps=settings.steps,
        seed=settings.seed,
    )
    return FitPlan(method, loss_of(method, fit_settings), assignment)
