"""A run with a call, a reply that never entered the prompt, and an answer, as the store would return it."""

from tests.runtime.store_samples import OK, header, intent, reply, turn

from koboshi_runtime.records import (
    CallRecord,
    EndReason,
    Outcome,
    OutcomeLabel,
    OutcomeSource,
    RunEnd,
    RunStatus,
    Trajectory,
    TurnKind,
)
from koboshi_tools import ToolSpec

SPEC = ToolSpec(
    name="calculator",
    description="Compute.",
    parameters={"type": "object", "properties": {"expression": {"type": "string"}}},
)


def trajectory(*, prompt: str = "How many apples are left?", output: str = "42") -> Trajectory:
    """Return the run, with another prompt or result if one is given."""
    asked = 'I compute.<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    invalid = turn(1, written=reply("<tool_call>\n{"), kind=TurnKind.INVALID)
    return Trajectory(
        run_id="abcdefgh12345678",
        created_at="2026-01-02T03:04:05.678+00:00",
        header=header(prompt).model_copy(update={"system": "You sell apples.", "tool_specs": (SPEC,)}),
        turns=(
            turn(0, written=reply(asked)),
            invalid.model_copy(update={"in_context": False, "error": "cut"}),
            turn(2, written=reply("<think>hm</think>42"), kind=TurnKind.ANSWER),
        ),
        calls=(CallRecord(intent=intent("k"), result=OK.model_copy(update={"output": output})),),
        outcomes=(
            Outcome(label=OutcomeLabel.SUCCESS, source=OutcomeSource.CHECKER, who="number", rationale="42 = 42"),
        ),
        end=RunEnd(status=RunStatus.FINISHED, reason=EndReason.ANSWER, answer="42"),
    )
