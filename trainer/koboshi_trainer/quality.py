"""Which runs may be learnt from, and what kind of failure a failure is: both read from what the runtime recorded.

A failure teaches only if the model failed on its own: well-formed, finished, wrong. One that never made a well-formed
call, went round in circles or ran out of budget is malformed, and left out unless it is asked for; what went wrong
around the model is never learnt, nor is a run that a tool's output gave orders to, nor one that held a secret.
"""

from collections.abc import Set
from enum import StrEnum

from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.records import EndReason, OutcomeLabel, OutcomeSource, Purpose, Split, Trajectory, TurnKind
from koboshi_tools import Transport

from .injection import told_to_obey
from .rows import well_formed

_NEAR_MISS_SCORE = 0.5
_LEARNT_FROM = frozenset({Purpose.WORK, Purpose.ROLLOUT})
_NOT_THE_MODELS_DOING = frozenset(
    {
        EndReason.MODEL_ERROR,
        EndReason.IN_DOUBT,
        EndReason.NOT_REPLAYABLE,
        EndReason.TIME_BUDGET,
        EndReason.WORKSPACE_LOST,
        EndReason.OUTSIDE,
        EndReason.REDACTED,
    }
)
_BUDGETS = frozenset(
    {
        EndReason.STEP_BUDGET,
        EndReason.TOKEN_BUDGET,
        EndReason.CALL_BUDGET,
        EndReason.CONTEXT_FULL,
    }
)


class FailureClass(StrEnum):
    """What kind of failure a run was, by the first that fits."""

    NO_CALL = "no_call"
    LOOP = "loop"
    BUDGET = "budget"
    DENIED = "denied"
    BAD_ARGUMENTS = "bad_arguments"
    TOOL_ERROR = "tool_error"
    NEAR_MISS = "near_miss"
    WRONG_ANSWER = "wrong_answer"


MALFORMED = (FailureClass.NO_CALL, FailureClass.LOOP, FailureClass.BUDGET)


def why_not(trajectory: Trajectory, *, evaluated: Set[str], weak_signals: bool) -> str | None:
    """Return the reason why a run is not learnt from, a word for the manifest, or None if it may be.

    `evaluated` are the hashes (`ids.prompt_hash`) of every prompt that was ever in an evaluation or a gate.
    """
    header = trajectory.header
    if header.purpose not in _LEARNT_FROM:
        return "purpose"
    if header.split is not Split.TRAIN:
        return "split"
    if trajectory.redacted:
        return "redacted"
    if prompt_hash(header.prompt) in evaluated:
        return "evaluated"
    if trajectory.end is None or trajectory.end.reason in _NOT_THE_MODELS_DOING:
        return "unfinished"
    if trajectory.outcome is OutcomeLabel.UNKNOWN:
        return "unknown"
    if told_to_obey(trajectory):
        return "injected"
    if _calls_what_was_not_offered(trajectory):
        return "not_offered"
    if not weak_signals and all(outcome.source is OutcomeSource.WEAK for outcome in trajectory.outcomes):
        return "weak"
    return None


def _calls_what_was_not_offered(trajectory: Trajectory) -> bool:
    """Whether an imported run calls tools that its record does not define: a prompt of ours could not offer them."""
    offered = {spec.name for spec in trajectory.header.tool_specs}
    called = {record.intent.call.name for record in trajectory.calls}
    return trajectory.header.imported is not None and not called <= offered


def failure_class(trajectory: Trajectory) -> FailureClass | None:
    """Return the class of a failed run, None for any other."""
    if trajectory.outcome is not OutcomeLabel.FAILURE or trajectory.end is None:
        return None
    reason = trajectory.end.reason
    if reason is EndReason.LOOP:
        return FailureClass.LOOP
    if reason in _BUDGETS:
        return FailureClass.BUDGET
    if _lacks_a_call(trajectory):
        return FailureClass.NO_CALL
    if reason is EndReason.DENIED:
        return FailureClass.DENIED
    return _by_calls(trajectory)


def _by_calls(trajectory: Trajectory) -> FailureClass:
    results = [call.result for call in trajectory.calls if call.result is not None]
    if any(result.transport is Transport.INVALID for result in results):
        return FailureClass.BAD_ARGUMENTS
    if any(result.transport is Transport.ERROR for result in results):
        return FailureClass.TOOL_ERROR
    scores = [outcome.score for outcome in trajectory.outcomes if outcome.score is not None]
    if scores and scores[-1] >= _NEAR_MISS_SCORE:
        return FailureClass.NEAR_MISS
    return FailureClass.WRONG_ANSWER


def _lacks_a_call(trajectory: Trajectory) -> bool:
    """Whether no well-formed call was made though there were tools, or no well-formed turn at all."""
    good = [turn for turn in trajectory.turns if well_formed(turn)]
    if not good:
        return True
    return bool(trajectory.header.tools) and not any(turn.kind is TurnKind.CALL for turn in good)
