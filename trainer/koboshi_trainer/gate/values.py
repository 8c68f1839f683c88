"""What a gate is given and what it says; a verdict holds every number that was used for it.

Rates and differences are shares (0.1 is ten points). `None` stands where nothing could be counted.
"""

from enum import StrEnum

from pydantic import Field

from koboshi_runtime.statistics import Interval
from koboshi_tools import Frozen

ERROR_BUDGET = 0.05
"""The chance of any false promotion in any thirty nights, and so the most that one gate may ever be given."""


class GateBudget(Frozen):
    """The chance of a false promotion that one gate may spend, as the ledger granted it under `grant_id`."""

    grant_id: str
    alpha: float = Field(gt=0, le=ERROR_BUDGET)


class GateFloors(Frozen):
    """What the candidate must not lose, and how much evidence a verdict needs.

    `tool_margin` and `invalid_margin` are the losses that must be excluded at one-sided `confidence`: of the success on
    tasks that use a tool, and of the share of invalid calls. A tool is held to it if at least `tool_min_share` of the
    tasks use it. Above `max_unknown_share` of unjudged runs on a side, or `max_not_replayable_share` of tasks left out,
    the evaluation itself is not believed. `power` is that of every "tasks needed".
    """

    tool_margin: float = Field(default=0.10, gt=0, lt=1)
    tool_min_share: float = Field(default=0.10, gt=0, le=1)
    invalid_margin: float = Field(default=0.05, gt=0, lt=1)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    # Below 50 tasks the intervals are too rough to show whether a floor holds.
    min_tasks: int = Field(default=50, ge=1)
    max_unknown_share: float = Field(default=0.10, ge=0, le=1)
    max_not_replayable_share: float = Field(default=0.05, ge=0, le=1)
    power: float = Field(default=0.8, ge=0.5, lt=1)


class ReasonCode(StrEnum):
    """Why a gate refuses. All that apply are given, not only the first."""

    MISSING_RESULTS = "missing_results"
    TOO_FEW_TASKS = "too_few_tasks"
    TOO_MANY_UNKNOWN = "too_many_unknown"
    TOO_MANY_NOT_REPLAYABLE = "too_many_not_replayable"
    NOT_BETTER = "not_better"
    NOT_PROVED = "not_proved"
    TOOL_WORSE = "tool_worse"
    TOOL_NOT_PROVED = "tool_not_proved"
    INVALID_CALLS_WORSE = "invalid_calls_worse"
    INVALID_CALLS_NOT_PROVED = "invalid_calls_not_proved"


class Reason(Frozen):
    """One reason to refuse: the value seen, the limit it missed, and how many more tasks would settle it, if any."""

    code: ReasonCode
    text: str
    value: float
    limit: float
    more_tasks: int | None = None


class ToolRow(Frozen):
    """The tasks of which any run on either side called `tool`.

    `judged` says whether enough of the tasks use it for the floor to hold it; a rarer tool is refused only where the
    loss is evident.
    """

    tool: str
    tasks: int
    current_rate: float
    candidate_rate: float
    difference: float
    lower_bound: float
    judged: bool
    held: bool
    more_tasks: int | None
    current_calls: int
    current_failures: int
    candidate_calls: int
    candidate_failures: int


class InvalidCallRow(Frozen):
    """Invalid or cut calls over calls begun; `upper_bound` is that of candidate minus current."""

    current_rate: float | None
    candidate_rate: float | None
    upper_bound: float | None
    held: bool
    more_tasks: int | None


class LevelRow(Frozen):
    """Success by level of difficulty; reported, not judged."""

    level: str
    tasks: int
    current_rate: float
    candidate_rate: float
    difference: float


class CostRow(Frozen):
    """Means over one side's runs; reported, not judged."""

    steps: float | None
    output_tokens: float | None
    seconds: float | None


class GateVerdict(Frozen):
    """The judgement and all it rests on.

    `tasks` counts those compared, with `seeds` runs each on either side. `wins`, `losses` and `ties` count tasks by the
    sign of their summed difference. `detectable_difference` is what this gate would have proved with the floors' power,
    `tasks_needed` what it takes if the difference seen is the true one, `more_tasks` the largest number any reason asks
    for; None where more tasks would not help.
    """

    accepted: bool
    reasons: tuple[Reason, ...]
    grant_id: str
    alpha: float
    p_value: float
    tasks: int
    seeds: int
    wins: int
    losses: int
    ties: int
    discordance: float
    current_rate: float | None
    candidate_rate: float | None
    difference: float | None
    ci95: Interval
    detectable_difference: float | None
    tasks_needed: int | None
    more_tasks: int | None
    missing: int
    not_replayable: int
    current_unknown: int
    candidate_unknown: int
    tools: tuple[ToolRow, ...]
    invalid_calls: InvalidCallRow
    levels: tuple[LevelRow, ...]
    current_cost: CostRow
    candidate_cost: CostRow
    floors: GateFloors
