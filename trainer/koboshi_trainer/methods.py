"""From one pool of examples to the rows of a method: which are used, under which condition, at which weight.

All arms of an experiment come from here, so that they differ in nothing else: Negative-Aware Training (Wang et al.,
arXiv 2402.11651), both kinds unlabelled (NUT), successes only, NAT with its labels shuffled, the control that must lose
the effect, and KTO, whose loss and not its condition tells the kinds apart. Decoding always asks for a success.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from koboshi_runtime.records import OutcomeLabel

from .fit_values import FitSettings, PreferenceSettings
from .rows import Example, Part, TokenRow, part_of, token_row

SUCCESS = "success"
FAILURE = "failure"
_DAY_S, _LEAST_WEIGHT = 86_400.0, 1e-6
GOOD_STEPS = "good_steps"
"""The label of rows of what a failed run did well."""


class Method(StrEnum):
    """How the two kinds of trajectories are used."""

    NAT = "nat"
    NUT = "nut"
    SUCCESS = "success"
    SHUFFLED = "shuffled"
    KTO = "kto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weight of a row's loss by its kind; an own run counts half as much for each `half_life_days` of its age.

    Age is counted from the newest own run, so that the same runs always give the same rows.
    """

    success: float = 1.0
    failure: float = 1.0
    demonstration: float = 1.0
    half_life_days: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Whether rows carry a condition, and which failure classes have one of their own.

    `classes` are the failure classes named to the model; one with fewer than `fewest` examples is merged into the plain
    failure, because a word that is seen seldom is not learnt.
    """

    used: bool = True
    classes: tuple[str, ...] = ()
    fewest: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What `assign` needs besides method and examples. With `twins` each own run has itself under the other condition.

    With `steps` a failed run whose first bad step is known is cut there: what came before is learnt as a success, a row
    of its own, and the rest as the failure. The other condition of a success is the plain failure, that of any failure
    is success. Demonstrations have no twin: what tells good runs from bad ones must not be who wrote them.
    """

    weights: Weights = field(default_factory=Weights)
    conditions: Conditions = field(default_factory=Conditions)
    twins: bool = False
    steps: bool = False
    seed: int = 0


def assign(examples: Sequence[Example], method: Method, assignment: Assignment | None = None) -> list[TokenRow]:
    """Return the rows of `method`, in the order of `examples`; successes alone have good steps of failures behind them.

    Under NUT, KTO and successes-only every row carries the success condition, as decoding asks for it. Under shuffled
    labels the conditions of NAT are permuted among the examples that are not demonstrations. Each row's `label` is its
    true class. Raises RowError if an example was built without a condition that is needed.
    """
    assignment = assignment or Assignment()
    used = [example for example in examples if method is not Method.SUCCESS or example.label is OutcomeLabel.SUCCESS]
    conditions = _conditions(used, method, assignment)
    fading = _Fading.of(examples, assignment.weights.half_life_days)
    rows = [
        fading.faded(row, example)
        for example, condition in zip(used, conditions, strict=True)
        if _weight(example, assignment.weights) > 0
        for row in _rows(example, condition, assignment)
    ]
    if method is Method.SUCCESS and assignment.steps:
        blamed = (example for example in examples if example.first_bad is not None)
        rows += [fading.faded(row, example) for example in blamed for row in _good(example, assignment)]
    return rows


@dataclass(frozen=True, slots=True)
class _Fading:
    """How the weights of own runs fade with their age, counted from `newest`, in seconds since the epoch."""

    newest: float
    half_life_s: float | None

    @classmethod
    def of(cls, examples: Sequence[Example], half_life_days: float | None) -> "_Fading":
        times = [_seconds(example) for example in examples if not example.demonstration]
        return cls(max(times, default=0.0), None if half_life_days is None else half_life_days * _DAY_S)

    def faded(self, row: TokenRow, example: Example) -> TokenRow:
        if self.half_life_s is None or example.demonstration:
            return row
        left = row.weight * 0.5 ** ((self.newest - _seconds(example)) / self.half_life_s)
        # A row of no weight at all is none.
        weight = max(left, _LEAST_WEIGHT)
        return replace(row, weight=weight, twin=None if row.twin is None else replace(row.twin, weight=weight))


def _seconds(example: Example) -> float:
    return datetime.fromisoformat(example.created_at).timestamp()


def _rows(example: Example, condition: str | None, assignment: Assignment) -> Iterator[TokenRow]:
    cut = assignment.steps and example.first_bad is not None and condition not in {SUCCESS, None}
    if not cut:
        yield _row(example, condition, assignment)
        return
    yield from _good(example, assignment)
    if part_of(example, Part.BAD):
        yield _row(example, condition, assignment, Part.BAD)


def _good(example: Example, assignment: Assignment) -> Iterator[TokenRow]:
    """Yield what was good of a failed run, under the success condition."""
    if part_of(example, Part.GOOD):
        condition = SUCCESS if assignment.conditions.used else None
        yield token_row(example, condition, weight=assignment.weights.success, label=GOOD_STEPS, part=Part.GOOD)


def _row(example: Example, condition: str | None, assignment: Assignment, part: Part = Part.WHOLE) -> TokenRow:
    weight = _weight(example, assignment.weights)
    row = token_row(example, condition, weight=weight, part=part)
    if not assignment.twins or example.demonstration:
        return row
    other = FAILURE if condition == SUCCESS else SUCCESS
    return replace(row, twin=token_row(example, other, weight=weight, part=part))


def _conditions(examples: Sequence[Example], method: Method, assignment: Assignment) -> list[str | None]:
    if not assignment.conditions.used:
        return [None] * len(examples)
    if method in {Method.NUT, Method.SUCCESS, Method.KTO}:
        return [SUCCESS] * len(examples)
    true = _true_conditions(examples, assignment.conditions)
    if method is Method.SHUFFLED:
        own = [i for i, example in enumerate(examples) if not example.demonstration]
        given = [true[i] for i in own]
        random.Random(assignment.seed).shuffle(given)
        for i, condition in zip(own, given, strict=True):
            true[i] = condition
    return list(true)


def _true_conditions(examples: Sequence[Example], conditions: Conditions) -> list[str]:
    counts = Counter(example.failure_class for example in examples)
    named = {name for name in conditions.classes if counts[name] >= conditions.fewest}
    return [
        SUCCESS
        if example.label is OutcomeLabel.SUCCESS
        else example.failure_class
        if example.failure_class in named
        else FAILURE
        for example in examples
    ]


def _weight(example: Example, weights: Weights) -> float:
    if example.demonstration:
        return weights.demonstration
    return weights.success if example.label is OutcomeLabel.SUCCESS else weights.failure


def loss_of(method: Method, settings: FitSettings) -> FitSettings:
    """Return the settings of a fit by `method`: KTO brings its own loss, and a contrast needs conditions that differ.

    What the settings name already stays, a contrast under a method without conditions apart.
    """
    if method not in {Method.NAT, Method.SHUFFLED}:
        settings = settings.without_contrast()
    if method is not Method.KTO or settings.preference is not None:
        return settings
    return settings.model_copy(update={"preference": PreferenceSettings()})
