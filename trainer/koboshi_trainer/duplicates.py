"""Keep few and different examples: near-duplicates out, then caps by task, ratio, project and outside source.

An outside source is a host or an MCP server that told a run something. However much it says, it can shape no more than
`per_source` rows: what comes from there may be poisoned in a way that nobody has seen yet.

Every choice is by a stable pseudo-random order under one seed of what the examples say, so that the same replies to the
same tasks always give the same examples in the same order: whatever order they come in, whatever ids their runs have.
Failures whose first bad step is known come before the others, and runs before forks, so that what is kept of the runs
does not depend on whether any was forked.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from koboshi_runtime.records import OutcomeLabel
from koboshi_tools import Frozen, canonical_json

from .identity import LATER
from .rows import Example

_GRAM = 5  # ids; long enough that two calls of one tool differ, short enough for a short reply


class Caps(Frozen):
    """How many examples of what are kept; None means all.

    A task that is solved every time teaches little that a model does not do already: `sure_share` of the successes at
    such tasks are kept, if there are `sure_after` of the task. `pairs_first` takes failures at tasks that were also
    solved before others, where the ratio cuts them down: both outcomes of one task show what made the difference.
    """

    successes_per_task: int = Field(default=4, ge=1)
    failures_per_task: int = Field(default=4, ge=1)
    near_duplicate: float = Field(default=0.9, gt=0, le=1, description="Jaccard similarity of two replies' 5-grams")
    failures_per_success: float | None = Field(default=2.0, gt=0)
    sure_share: float = Field(default=1.0, ge=0, le=1)
    sure_after: Annotated[int, LATER] = Field(default=1, ge=1)
    pairs_first: bool = False
    demonstrations_per_own: float | None = Field(default=None, ge=0)
    per_project: int | None = Field(default=None, ge=1)
    per_source: int | None = Field(default=50, ge=1)

    def identity(self) -> dict[str, Any]:
        """Return what tells caps apart; with those that came later at their defaults, what it was before them."""
        later = {"sure_share", "sure_after", "pairs_first"}
        return self.model_dump(exclude=later) | self.model_dump(include=later, exclude_defaults=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the caps left, ordered by the stable choice, and how many fell to which cap."""

    examples: tuple[Example, ...]
    dropped: Counter[str]


def keep(examples: Iterable[Example], caps: Caps, *, seed: int) -> Kept:
    """Apply all caps. Demonstrations are kept apart: they count in no ratio but their own."""
    ordered = sorted(examples, key=lambda one: (one.first_bad is None, one.forked, order_key(seed, one)))
    dropped: Counter[str] = Counter()
    own = _unsure([example for example in ordered if not example.demonstration], caps, dropped)
    own = _ratio(_per_task(own, caps, dropped), caps, dropped)
    own = _per_source(_per_project(own, caps, dropped), caps, dropped)
    shown = _per_task([example for example in ordered if example.demonstration], caps, dropped)
    if caps.demonstrations_per_own is not None and own:
        room = round(caps.demonstrations_per_own * len(own))
        dropped["demonstrations"] += max(0, len(shown) - room)
        shown = shown[:room]
    return Kept(examples=(*own, *shown), dropped=+dropped)


def order_key(seed: int, example: Example) -> tuple[str, str]:
    """Return a sort key that looks random and is the same everywhere: by task and replies, of equal ones by run."""
    said = canonical_json([seed, example.task_hash, example.learnt_ids])
    return hashlib.sha256(said.encode()).hexdigest(), example.run_id


def similarity(left: Sequence[int], right: Sequence[int]) -> float:
    """Return the Jaccard similarity of the 5-grams of two replies, 1 for equal ones."""
    a, b = _grams(left), _grams(right)
    return len(a & b) / len(a | b)


def _grams(ids: Sequence[int]) -> set[tuple[int, ...]]:
    return {tuple(ids[at : at + _GRAM]) for at in range(max(1, len(ids) - _GRAM + 1))}


def _unsure(examples: list[Example], caps: Caps, dropped: Counter[str]) -> list[Example]:
    failed, tried = _tasks(examples, OutcomeLabel.FAILURE), Counter(example.task_hash for example in examples)
    sure = [one for one in examples if one.task_hash not in failed and tried[one.task_hash] >= caps.sure_after]
    left_out = {example.run_id for example in sure[round(caps.sure_share * len(sure)) :]}
    dropped["sure"] += len(left_out)
    return [example for example in examples if example.run_id not in left_out]


def _tasks(examples: Iterable[Example], label: OutcomeLabel) -> set[str]:
    return {example.task_hash for example in examples if example.label is label}


def _per_task(examples: Sequence[Example], caps: Caps, dropped: Counter[str]) -> list[Example]:
    kept: dict[tuple[str, OutcomeLabel], list[Example]] = defaultdict(list)
    found = []
    for example in examples:
        same = kept[example.task_hash, example.label]
        limit = caps.successes_per_task if example.label is OutcomeLabel.SUCCESS else caps.failures_per_task
        if any(similarity(example.learnt_ids, other.learnt_ids) >= caps.near_duplicate for other in same):
            dropped["near_duplicate"] += 1
        elif len(same) >= limit:
            dropped["per_task"] += 1
        else:
            same.append(example)
            found.append(example)
    return found


def _ratio(examples: list[Example], caps: Caps, dropped: Counter[str]) -> list[Example]:
    if caps.failures_per_success is None:
        return examples
    successes = sum(example.label is OutcomeLabel.SUCCESS for example in examples)
    failures = [example for example in examples if example.label is OutcomeLabel.FAILURE]
    if caps.pairs_first:
        solved = _tasks(examples, OutcomeLabel.SUCCESS)
        failures.sort(key=lambda example: example.task_hash not in solved)
    left_out = {example.run_id for example in failures[round(caps.failures_per_success * successes) :]}
    dropped["ratio"] += len(left_out)
    return [example for example in examples if example.run_id not in left_out]


def _per_project(examples: list[Example], caps: Caps, dropped: Counter[str]) -> list[Example]:
    if caps.per_project is None:
        return examples
    used: Counter[str] = Counter()
    found = []
    for example in examples:
        used[example.project] += 1
        if used[example.project] > caps.per_project:
            dropped["per_project"] += 1
        else:
            found.append(example)
    return found


def _per_source(examples: list[Example], caps: Caps, dropped: Counter[str]) -> list[Example]:
    if caps.per_source is None:
        return examples
    used: Counter[str] = Counter()
    found = []
    for example in examples:
        if any(used[source] >= caps.per_source for source in example.sources):
            dropped["per_source"] += 1
            continue
        used.update(example.sources)
        found.append(example)
    return found
