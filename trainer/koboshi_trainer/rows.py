"""Turn a stored trajectory into the ids that are trained on.

Every id is one that the runtime logged: nothing that a model wrote is tokenised again. The one exception is the user
segment, which carries the condition as its last line and is therefore rendered anew for each condition, by the callable
that the runtime's prompt module provides. The loss falls on the model's own well-formed replies, stop token included; a
malformed or cut reply stays in the context if it was there, and is never learnt, nor is a call that a policy denied or
changed learnt as a success (`marks`).

An `Example` is what a dataset keeps, one for each trajectory, ready for any condition. A `TokenRow` is an example under
one condition: ids and mask, checked once for equal length. The prefix (system prompt and tools) is the same for most
rows and stays apart, so that the trainer computes it once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from koboshi_policies.versions import ToolVersion
from koboshi_runtime.model import FinishReason
from koboshi_runtime.records import OutcomeLabel, Purpose, SegmentKind, Trajectory, TurnKind, TurnRecord
from koboshi_tools import Frozen, KoboshiError

from .marks import StepMark, may_teach, step_marks

UserSegment = Callable[[str, str | None], tuple[int, ...]]
"""From a task's prompt and a condition (None: none) to the ids of the user segment."""

NO_CONDITION = ""


class Part(StrEnum):
    """Which replies of an example a row learns: all, those before its first bad step, or those from it on."""

    WHOLE = "whole"
    GOOD = "good"
    BAD = "bad"


class RowError(KoboshiError):
    """A trajectory cannot become a row."""


class Span(Frozen):
    """A stretch of ids behind the user segment; `learn` says whether the model wrote it and is to learn it.

    `mark` says what a policy or a person made of the calls in it, `step` which turn of its run a reply was.
    """

    ids: tuple[int, ...]
    learn: bool
    mark: StepMark | None = None
    step: int | None = None


class Example(Frozen):
    """One trajectory, ready for any condition.

    `users` holds the user segment's ids by condition, under `NO_CONDITION` those without one. `task_hash` is the hash
    of the normalised prompt; `failure_class` is None for a success. `tool_versions` holds the version of each tool that
    was called, `sources` the places outside that the run was told something from, `imported` the one it was read from.
    `first_bad` is the step at which a failed run was lost, where its forks have shown that; `forked` marks a fork.
    """

    run_id: str
    task_hash: str
    project: str
    purpose: Purpose
    label: OutcomeLabel
    failure_class: str | None = None
    first_bad: int | None = None
    demonstration: bool = False
    forked: bool = False
    tools: tuple[str, ...] = ()
    tool_versions: dict[str, ToolVersion] = Field(default_factory=dict)
    sources: tuple[str, ...] = ()
    level: str | None = None
    imported: str | None = None
    created_at: str
    model_hash: str
    prefix_ids: tuple[int, ...]
    users: dict[str, tuple[int, ...]]
    spans: tuple[Span, ...]

    @property
    def learnt_ids(self) -> tuple[int, ...]:
        """The ids that this example teaches, all replies in order."""
        return tuple(token for span in self.spans if span.learn for token in span.ids)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Ids with their mask: `prefix_ids` is context only; of `ids`, those with `learn` carry the loss, times `weight`.

    `label` names the row's class in reports, `group` the task it belongs to. `twin` is the same run under the other
    condition, which is computed beside it and only compared with. Raises ValueError if ids and mask differ in length,
    if nothing is learnt, or if the first id is to be learnt, which nothing before it predicts.
    """

    prefix_ids: tuple[int, ...]
    ids: tuple[int, ...]
    learn: tuple[bool, ...]
    weight: float = 1.0
    condition: str | None = None
    label: str = ""
    group: str = ""
    run_id: str = ""
    twin: "TokenRow | None" = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.learn):
            raise ValueError(f"row {self.run_id!r} has {len(self.ids)} ids and a mask of {len(self.learn)}")
        if not any(self.learn) or self.learn[0]:
            raise ValueError(f"row {self.run_id!r} learns nothing, or an id that nothing comes before")
        if self.weight <= 0:
            raise ValueError(f"row {self.run_id!r} has weight {self.weight}; leave it out instead")

    @property
    def learnt(self) -> int:
        """How many ids carry the loss."""
        return sum(self.learn)


def token_row(
    example: Example,
    condition: str | None,
    *,
    weight: float = 1.0,
    label: str | None = None,
    part: Part = Part.WHOLE,
) -> TokenRow:
    """Return `example` under `condition`; raises RowError if the dataset was built without that condition.

    Of a `part` that is not the whole, what stands behind its last learnt reply is left out. Raises ValueError if
    nothing of it is learnt.
    """
    user = example.users.get(condition or NO_CONDITION)
    if user is None:
        raise RowError(
            f"run {example.run_id} has no user segment for condition {condition!r}, only for {sorted(example.users)}",
            hint="Build the dataset again with this condition among its conditions.",
        )
    ids, learn = list(user), [False] * len(user)
    for span in part_of(example, part):
        ids.extend(span.ids)
        learn.extend([span.learn] * len(span.ids))
    return TokenRow(
        prefix_ids=example.prefix_ids,
        ids=tuple(ids),
        learn=tuple(learn),
        weight=weight,
        condition=condition,
        label=label or example.failure_class or example.label.value,
        group=example.task_hash,
        run_id=example.run_id,
    )


def part_of(example: Example, part: Part) -> tuple[Span, ...]:
    """Return the spans of a part of an example, empty if nothing of it is learnt."""
    if part is Part.WHOLE:
        return example.spans
    bad = example.first_bad

    def belongs(span: Span) -> bool:
        return bad is not None and span.step is not None and (span.step < bad) is (part is Part.GOOD)

    return _trim([span.model_copy(update={"learn": span.learn and belongs(span)}) for span in example.spans])


def prefix_and_spans(trajectory: Trajectory) -> tuple[tuple[int, ...], tuple[Span, ...]]:
    """Return the ids before the user segment, and the spans behind it up to the last one that is learnt.

    Raises RowError unless the run has exactly one user segment, with nothing but the prefix before it, and at least one
    reply worth learning.
    """
    kinds = [segment.kind for turn in trajectory.turns for segment in turn.segments]
    if kinds.count(SegmentKind.USER) != 1 or not trajectory.turns:
        raise RowError(f"run {trajectory.run_id} has {kinds.count(SegmentKind.USER)} user segments; a row needs one")
    first = [segment.kind for segment in trajectory.turns[0].segments]
    user_at = first.index(SegmentKind.USER) if SegmentKind.USER in first else -1
    if user_at < 0 or any(kind is not SegmentKind.PREFIX for kind in first[:user_at]):
        raise RowError(f"run {trajectory.run_id} does not begin with its prefix and its user segment")
    prefix = tuple(token for segment in trajectory.turns[0].segments[:user_at] for token in segment.ids)
    spans = _trim(list(_spans(trajectory, skip=user_at + 1)))
    if not spans:
        raise RowError(f"run {trajectory.run_id} holds no well-formed reply that may be learnt")
    return prefix, spans


def logged_user_ids(trajectory: Trajectory) -> tuple[int, ...]:
    """Return the ids of the user segment as they were decoded."""
    segments = (segment for turn in trajectory.turns for segment in turn.segments)
    return next((segment.ids for segment in segments if segment.kind is SegmentKind.USER), ())


def well_formed(turn: TurnRecord) -> bool:
    """Whether the reply is a whole call or answer, one that may be learnt."""
    return turn.kind is not TurnKind.INVALID and turn.reply.finish is not FinishReason.LENGTH


def _spans(trajectory: Trajectory, *, skip: int) -> Iterator[Span]:
    turns, marks = trajectory.turns, step_marks(trajectory)
    for number, turn in enumerate(turns):
        for segment in turn.segments[skip if number == 0 else 0 :]:
            yield Span(ids=segment.ids, learn=False)
        # Nothing follows the last reply, so it may be learnt even if it was not kept for a next prompt.
        if turn.in_context or (turn is turns[-1] and well_formed(turn)):
            mark = marks.get(turn.index)
            learn = well_formed(turn) and may_teach(mark, trajectory.outcome)
            yield Span(ids=turn.reply.ids, learn=learn, mark=mark, step=turn.index)


def _trim(spans: list[Span]) -> tuple[Span, ...]:
    """Drop what stands behind the last learnt span: it costs time and teaches nothing."""
    while spans and not (spans[-1].learn and spans[-1].ids):
        spans.pop()
    return tuple(span for span in spans if span.ids)
