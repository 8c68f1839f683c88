"""A run in the form that other tools read: OpenAI chat messages with tool definitions.

What is no part of the conversation as it stands is left out: replies that were invalid and never re-entered the
prompt, and text between thinking marks. Token ids, log-probabilities, decisions and times are in the raw record
only.
"""

import json
import math
from typing import Any

from koboshi_tools import ToolSpec

from .formats import tool_format
from .prompt import without_thinking
from .records import CallRecord, Trajectory, TurnKind, TurnRecord


def openai_record(trajectory: Trajectory) -> dict[str, Any]:
    """Return `messages` and `tools` of a run as the OpenAI chat API has them, with its id, outcome and model."""
    header = trajectory.header
    messages: list[dict[str, Any]] = [{"role": "system", "content": header.system}] if header.system else []
    messages.append({"role": "user", "content": header.prompt})
    opening = tool_format(header.profile.tool_format).opening
    for turn in trajectory.turns:
        if turn.in_context:
            made = [call for call in trajectory.calls if call.intent.step_index == turn.index]
            messages += _turn(turn, made, opening)
    return {
        "messages": messages,
        "tools": [_tool(spec) for spec in header.tool_specs],
        "run_id": trajectory.run_id,
        "outcome": trajectory.outcome,
        "purpose": header.purpose,
        "model": header.model_hash,
    }


def raw_record(trajectory: Trajectory) -> dict[str, Any]:
    """Return everything that is stored of a run as JSON; a log-probability that is not finite is null."""
    record: dict[str, Any] = _finite(trajectory.model_dump(mode="json"))
    return record


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value


def _turn(turn: TurnRecord, made: list[CallRecord], opening: str) -> list[dict[str, Any]]:
    text = without_thinking(turn.reply.text)
    if turn.kind is not TurnKind.CALL:
        return [{"role": "assistant", "content": text}]
    before = text.partition(opening)[0].strip() if opening else ""
    calls = [_call(call) for call in made]
    results = [
        {"role": "tool", "tool_call_id": call.intent.idempotency_key, "content": call.result.output}
        for call in made
        if call.result
    ]
    return [{"role": "assistant", "content": before or None, "tool_calls": calls}, *results]


def _call(call: CallRecord) -> dict[str, Any]:
    asked = call.intent.call
    arguments = json.dumps(asked.arguments, ensure_ascii=False)
    function = {"name": asked.name, "arguments": arguments}
    return {"id": call.intent.idempotency_key, "type": "function", "function": function}


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {"type": "function", "function": spec.model_dump(mode="json")}
