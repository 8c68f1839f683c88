"""Judge whether a candidate is proved better than the current model.

Both ran the same tasks with the same seeds. The candidate is accepted only if an exact one-sided test, at the alpha
that the ledger granted, says that it is better, and every floor holds. All else is refused, with every reason that
applies as data: what is missing, too few, tied, not judged or worse. The functions are pure; no model is run here.

Covered: tasks as the unit, however many seeds; runs that are missing on either side or both; tools of which success
falls although the whole rises. Not covered: that the gate tasks resemble the user's work; tasks so alike that they are
not independent.
"""

from collections.abc import Sequence
from typing import TypeAlias

from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.statistics import TaskResult

from ..pairs import Pairs, pair, success_rate
from ..stats import bootstrap_interval, detectable_difference, discordance, sign_flip_p, tasks_needed
from .floors import invalid_call_row, level_rows, tool_rows
from .reasons import reasons_to_refuse
from .values import CostRow, GateBudget, GateFloors, GateVerdict

GateResult: TypeAlias = TaskResult
"""One run of one gate task with one seed."""

_DEFAULT_FLOORS = GateFloors()


def judge_gate(
    current: Sequence[GateResult],
    candidate: Sequence[GateResult],
    budget: GateBudget,
    floors: GateFloors = _DEFAULT_FLOORS,
    *,
    planned_runs: int | None = None,
) -> GateVerdict:
    """Return the verdict on `candidate`.

    Args:
        current: the results of the model in use.
        candidate: the results of the model that may replace it.
        budget: the chance of a false promotion that may be spent, from `Ledger.grant`.
        floors: what must not be lost.
        planned_runs: how many runs each side was to make; without it, runs that both sides lack go unseen.

    Raises:
        UsageError: one side has a task twice with the same seed.
    """
    pairs = pair(current, candidate)
    verdict = _measure(pairs, budget, floors)
    if planned_runs is not None:
        seen = len(current) + len(candidate)
        verdict = verdict.model_copy(update={"missing": max(pairs.missing, 2 * planned_runs - seen)})
    reasons = reasons_to_refuse(verdict)
    more = max((reason.more_tasks for reason in reasons if reason.more_tasks is not None), default=None)
    return verdict.model_copy(update={"accepted": not reasons, "reasons": reasons, "more_tasks": more})


def _measure(pairs: Pairs, budget: GateBudget, floors: GateFloors) -> GateVerdict:
    differences = pairs.differences()
    totals = differences.sum(axis=1)
    mean = float(differences.mean()) if len(totals) else None
    spread = discordance(differences)
    seen = max(0.0, mean or 0.0)
    return GateVerdict(
        accepted=False,
        reasons=(),
        grant_id=budget.grant_id,
        alpha=budget.alpha,
        p_value=sign_flip_p(differences),
        tasks=len(totals),
        seeds=pairs.seeds,
        wins=int((totals > 0).sum()),
        losses=int((totals < 0).sum()),
        ties=int((totals == 0).sum()),
        discordance=spread,
        current_rate=success_rate(pairs.current),
        candidate_rate=success_rate(pairs.candidate),
        difference=mean,
        ci95=bootstrap_interval(differences),
        detectable_difference=detectable_difference(len(totals), spread, alpha=budget.alpha, power=floors.power),
        tasks_needed=tasks_needed(seen, spread, alpha=budget.alpha, power=floors.power) if seen else None,
        more_tasks=None,
        missing=pairs.missing,
        not_replayable=pairs.not_replayable,
        current_unknown=_unknown(pairs.current),
        candidate_unknown=_unknown(pairs.candidate),
        tools=tool_rows(pairs, floors),
        invalid_calls=invalid_call_row(pairs, floors),
        levels=level_rows(pairs),
        current_cost=_cost(pairs.current),
        candidate_cost=_cost(pairs.candidate),
        floors=floors,
    )


def _unknown(side: Sequence[Sequence[TaskResult]]) -> int:
    return sum(run.outcome is OutcomeLabel.UNKNOWN for row in side for run in row)


def _cost(side: Sequence[Sequence[TaskResult]]) -> CostRow:
    runs = [run for row in side for run in row]
    if not runs:
        return CostRow(steps=None, output_tokens=None, seconds=None)
    return CostRow(
        steps=sum(run.steps for run in runs) / len(runs),
        output_tokens=sum(run.output_tokens for run in runs) / len(runs),
        seconds=sum(run.seconds for run in runs) / len(runs),
    )
