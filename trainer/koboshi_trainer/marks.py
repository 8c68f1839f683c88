"""What a policy or a person made of each step of a run, and whether the step may then be learnt as part of a success.

A call that was denied, or that a rule had to change, is not what made a run succeed: in a success its turn stays in the
context and is not learnt. In a failure it is learnt like the rest, under the failure's condition. An approved call is
learnt as it is, and marked.
"""

from enum import StrEnum

from koboshi_policies import Answer
from koboshi_runtime.records import CallRecord, OutcomeLabel, Trajectory
from koboshi_tools import Transport


class StepMark(StrEnum):
    """What became of a step's calls, the first that fits any of them."""

    DENIED = "denied"
    EDITED = "edited"
    APPROVED = "approved"


_NOT_A_SUCCESS = (StepMark.DENIED, StepMark.EDITED)


def step_marks(trajectory: Trajectory) -> dict[int, StepMark]:
    """Return the mark of each step, by its index, that a policy or a person did something to."""
    found: dict[int, set[StepMark]] = {}
    for record in trajectory.calls:
        mark = _mark(record)
        if mark is not None:
            found.setdefault(record.intent.step_index, set()).add(mark)
    return {index: next(mark for mark in StepMark if mark in marks) for index, marks in found.items()}


def may_teach(mark: StepMark | None, outcome: OutcomeLabel) -> bool:
    """Return whether a step with this mark is learnt in a run of this outcome."""
    return outcome is not OutcomeLabel.SUCCESS or mark not in _NOT_A_SUCCESS


def _mark(record: CallRecord) -> StepMark | None:
    # A function that nobody could execute was never forbidden, so the transport tells, not the verdict.
    if record.result is not None and record.result.transport is Transport.DENIED:
        return StepMark.DENIED
    decision = record.intent.decision
    if decision.arguments is not None:
        return StepMark.EDITED
    return StepMark.APPROVED if decision.asked is Answer.APPROVED else None
