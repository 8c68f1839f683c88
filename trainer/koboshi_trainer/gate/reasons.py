"""Every reason for which a measured gate is refused, and the verdict in words.

A verdict without a reason is accepted: what may refuse is written here and nowhere else.
"""

from collections.abc import Iterator

from .values import GateVerdict, Reason, ReasonCode, ToolRow


def reasons_to_refuse(verdict: GateVerdict) -> tuple[Reason, ...]:
    """Return all reasons against the measured `verdict`, those about the evidence first; none means accepted."""
    return (*_evidence(verdict), *_superiority(verdict), *_tools(verdict), *_invalid_calls(verdict))


def explain(verdict: GateVerdict) -> list[str]:
    """Return the verdict as lines of plain text, the judgement first."""
    return [
        "accepted" if verdict.accepted else "refused",
        *(f"  because {reason.text}{_asking(reason.more_tasks)}" for reason in verdict.reasons),
        f"success: current {_percent(verdict.current_rate)}, candidate {_percent(verdict.candidate_rate)}, difference "
        f"{_points(verdict.difference)}, 95 % interval {_points(verdict.ci95.low)} to {_points(verdict.ci95.high)}",
        f"tasks: {verdict.tasks}, {verdict.seeds} run(s) each a side: {verdict.wins} won, {verdict.losses} lost, "
        f"{verdict.ties} tied; p = {verdict.p_value:.3g}, alpha = {verdict.alpha:.3g}",
        f"smallest difference that this gate could have proved: {_points(verdict.detectable_difference)}",
        f"left out: {verdict.missing} runs missing, {verdict.not_replayable} tasks not replayable; unknown: "
        f"{verdict.current_unknown} of the current model, {verdict.candidate_unknown} of the candidate",
        *(_tool_line(row) for row in verdict.tools),
        f"invalid calls: {_percent(verdict.invalid_calls.current_rate)} -> "
        f"{_percent(verdict.invalid_calls.candidate_rate)}, at most {_points(verdict.invalid_calls.upper_bound)}",
        *(
            f"level {row.level}: {_percent(row.current_rate)} -> {_percent(row.candidate_rate)} on {row.tasks} tasks"
            for row in verdict.levels
        ),
        f"a run: {_number(verdict.current_cost.output_tokens)} -> {_number(verdict.candidate_cost.output_tokens)} "
        f"output tokens, {_number(verdict.current_cost.steps)} -> {_number(verdict.candidate_cost.steps)} steps, "
        f"{_number(verdict.current_cost.seconds)} -> {_number(verdict.candidate_cost.seconds)} s",
    ]


def _evidence(verdict: GateVerdict) -> Iterator[Reason]:
    floors = verdict.floors
    if verdict.missing:
        text = f"{verdict.missing} runs have no result: an evaluation crashed or hung"
        yield Reason(code=ReasonCode.MISSING_RESULTS, text=text, value=verdict.missing, limit=0)
    if verdict.tasks < floors.min_tasks:
        yield Reason(
            code=ReasonCode.TOO_FEW_TASKS,
            text=f"{verdict.tasks} tasks were compared and {floors.min_tasks} are the least",
            value=verdict.tasks,
            limit=floors.min_tasks,
            more_tasks=floors.min_tasks - verdict.tasks,
        )
    runs = verdict.tasks * verdict.seeds
    for side, unknown in (("current model", verdict.current_unknown), ("candidate", verdict.candidate_unknown)):
        if unknown > floors.max_unknown_share * runs:
            text = f"{unknown} of {runs} runs of the {side} were not judged"
            limit = floors.max_unknown_share
            yield Reason(code=ReasonCode.TOO_MANY_UNKNOWN, text=text, value=unknown / runs, limit=limit)
    asked = verdict.tasks + verdict.not_replayable
    if verdict.not_replayable > floors.max_not_replayable_share * asked:
        yield Reason(
            code=ReasonCode.TOO_MANY_NOT_REPLAYABLE,
            text=f"{verdict.not_replayable} of {asked} tasks could not be replayed",
            value=verdict.not_replayable / asked,
            limit=floors.max_not_replayable_share,
        )


def _superiority(verdict: GateVerdict) -> Iterator[Reason]:
    if verdict.difference is None or verdict.difference <= 0:
        text = f"the candidate is not better: {verdict.wins} tasks won, {verdict.losses} lost"
        yield Reason(code=ReasonCode.NOT_BETTER, text=text, value=verdict.difference or 0.0, limit=0)
    elif verdict.p_value > verdict.alpha:
        # The test may just miss with as many tasks as its formula asks for: then one more is the least it can need.
        needed = max(verdict.tasks + 1, verdict.tasks_needed or 0)
        yield Reason(
            code=ReasonCode.NOT_PROVED,
            text=f"{_points(verdict.difference)} on {verdict.tasks} tasks may be chance "
            f"(p = {verdict.p_value:.3g}, alpha = {verdict.alpha:.3g})",
            value=verdict.p_value,
            limit=verdict.alpha,
            more_tasks=needed - verdict.tasks,
        )


def _tools(verdict: GateVerdict) -> Iterator[Reason]:
    margin = verdict.floors.tool_margin
    for row in verdict.tools:
        if row.held:
            continue
        settled = row.more_tasks is None
        text = f"success on {row.tasks} tasks with {row.tool} went {_points(row.difference)}"
        if not settled:
            text += f", and a loss of {_points(margin, signed=False)} is not excluded"
        yield Reason(
            code=ReasonCode.TOOL_WORSE if settled else ReasonCode.TOOL_NOT_PROVED,
            text=text,
            value=row.lower_bound,
            limit=-margin,
            more_tasks=row.more_tasks,
        )


def _invalid_calls(verdict: GateVerdict) -> Iterator[Reason]:
    row, margin = verdict.invalid_calls, verdict.floors.invalid_margin
    if row.held or row.upper_bound is None:
        return
    yield Reason(
        code=ReasonCode.INVALID_CALLS_WORSE if row.more_tasks is None else ReasonCode.INVALID_CALLS_NOT_PROVED,
        text=f"invalid calls went from {_percent(row.current_rate)} to {_percent(row.candidate_rate)}, and a rise of "
        f"{_points(margin, signed=False)} is not excluded",
        value=row.upper_bound,
        limit=margin,
        more_tasks=row.more_tasks,
    )


def _tool_line(row: ToolRow) -> str:
    judged = "" if row.judged else ", too rare for the floor"
    return (
        f"tool {row.tool}: {_percent(row.current_rate)} -> {_percent(row.candidate_rate)} on {row.tasks} tasks, "
        f"at least {_points(row.lower_bound)}{judged}; failed calls {row.current_failures}/{row.current_calls} -> "
        f"{row.candidate_failures}/{row.candidate_calls}"
    )


def _asking(more_tasks: int | None) -> str:
    return "" if more_tasks is None else f"; about {more_tasks} more tasks would settle it"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _points(share: float | None, *, signed: bool = True) -> str:
    if share is None:
        return "-"
    return f"{100 * share:+.1f} points" if signed else f"{100 * share:.1f} points"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
