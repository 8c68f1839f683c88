"""How long a fit goes on, in which batches, and how fast it learns at each optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import replace

from .batches import OptimizerBatch, micro_batches, plan_epoch
from .fit_values import FitSettings
from .rows import TokenRow


def learning_rate(step: int, steps: int, settings: FitSettings) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    floor = settings.final_learning_rate
    return settings.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


def plan_fit(rows: Sequence[TokenRow], settings: FitSettings) -> list[OptimizerBatch]:
    """All optimizer steps of the fit; those before `contrast_from` of them go without twins."""
    plan = _whole_plan(rows if settings.share_prefix else [_unshared(row) for row in rows], settings)
    early = int(settings.contrast_from * len(plan))
    return [_without_twins(batch, settings.micro_tokens) for batch in plan[:early]] + plan[early:]


def planned_steps(rows: int, settings: FitSettings) -> int | None:
    """Return how many optimizer steps a fit of so many rows takes, None where a number of tokens ends it."""
    if settings.optimizer_steps is not None or settings.max_tokens is not None:
        return settings.optimizer_steps
    per_epoch = math.ceil(rows / settings.batch_rows)
    told, twice = (max(1, round(passes * per_epoch)) for passes in (settings.epochs, 2 * settings.epochs))
    return min(max(told, settings.least_steps), twice)


def _whole_plan(rows: Sequence[TokenRow], settings: FitSettings) -> list[OptimizerBatch]:
    """Epoch after epoch until the budget is spent."""
    limit = planned_steps(len(rows), settings) or math.inf
    plan: list[OptimizerBatch] = []
    tokens, epoch = 0, 0
    while True:
        for batch in plan_epoch(
            rows,
            batch_rows=settings.batch_rows,
            max_tokens=settings.micro_tokens,
            seed=settings.seed,
            epoch=epoch,
            tasks_together=settings.tasks_together,
            tasks_whole=settings.ranking > 0,
        ):
            tokens += row_tokens(batch)
            if len(plan) >= limit or (plan and settings.max_tokens is not None and tokens > settings.max_tokens):
                return plan
            plan.append(batch)
        epoch += 1


def _without_twins(batch: OptimizerBatch, max_tokens: int) -> OptimizerBatch:
    own = [row for micro in batch for row, its_own in zip(micro.rows, micro.own, strict=True) if its_own]
    return tuple(micro_batches([replace(row, twin=None) for row in own], max_tokens=max_tokens))


def _unshared(row: TokenRow) -> TokenRow:
    prefix = row.prefix_ids
    return replace(
        row,
        prefix_ids=(),
        ids=prefix + row.ids,
        learn=(False,) * len(prefix) + row.learn,
        twin=_unshared(row.twin) if row.twin is not None else None,
    )


def row_tokens(batch: OptimizerBatch) -> int:
    """Tokens of the rows, each with its prefix, whether computed once or often."""
    return sum(len(row.prefix_ids) + len(row.ids) for micro in batch for row in micro.rows)
