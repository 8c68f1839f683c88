"""Failed runs that had their answer at hand: a tool had said it, and the run went on, or said something else.

Whether it was the answer is asked of the task's own checker, for checkers that judge an answer and nothing else. Going
on from there again costs a short reply, and what succeeds is the failed run put right at the step where it was lost.
"""

from koboshi_runtime.checkers import (
    ExactChecker,
    Finished,
    JsonChecker,
    NumberChecker,
    OneOfChecker,
    RegexChecker,
    judge,
)
from koboshi_runtime.records import OutcomeLabel, Trajectory
from koboshi_runtime.tasks import Task

_BY_ANSWER = (NumberChecker, ExactChecker, RegexChecker, OneOfChecker, JsonChecker)


def at_hand(run: Trajectory) -> int | None:
    """Return behind how many turns of `run` a tool first said what its checker takes for the answer; None if never."""
    task = Task.model_validate(run.header.task) if run.header.task else None
    if task is None or not isinstance(task.checker, _BY_ANSWER):
        return None
    for call in run.calls:
        said = call.result.output if call.result is not None else None
        if said and judge(task.checker, Finished(answer=said)).label is OutcomeLabel.SUCCESS:
            return call.intent.step_index + 1
    return None
