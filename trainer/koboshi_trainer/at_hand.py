"""Failed runs that had their answer at hand: a tool had said it, and the run went on, or said something else.

Whether it was the answer is asked of the task's own checker, for checkers that judge an answer and nothing else. Going
on from there again costs a short reply, and what succeeds is the failed run put right at the step where it was lost.
"""

from typing import Any

from pydantic import TypeAdapter

from koboshi_runtime.checkers import (
    Checker,
    ExactChecker,
    Finished,
    JsonChecker,
    NumberChecker,
    OneOfChecker,
    RegexChecker,
    judge,
)
from koboshi_runtime.records import OutcomeLabel, Trajectory

_BY_ANSWER = (NumberChecker, ExactChecker, RegexChecker, OneOfChecker, JsonChecker)
_CHECKER: TypeAdapter[Any] = TypeAdapter(Checker)


def at_hand(run: Trajectory) -> int | None:
    """Return behind how many turns of `run` a tool first said what its checker takes for the answer; None if never."""
    stored = (run.header.task or {}).get("checker")
    if stored is None:
        return None
    checker = _CHECKER.validate_python(stored)
    if not isinstance(checker, _BY_ANSWER):
        return None
    for call in run.calls:
        said = call.result.output if call.result is not None else None
        if said and judge(checker, Finished(answer=said)).label is OutcomeLabel.SUCCESS:
            return call.intent.step_index + 1
    return None
