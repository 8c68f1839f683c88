"""ATIF, the Agent Trajectory Interchange Format of Harbor (RFC 0001): one JSON document a run.

Written is version 1.7, with the ids and log-probabilities that the model drew where they are known. Read is every 1.x.
Steps that are marked as copied context are context here too. Results without a call are what the surroundings said, and
become a question. Not read: trajectories of sub-agents inside a document.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, Field

from koboshi_tools import ToolResult, Transport

from ..records import Trajectory, TurnRecord
from ..talk import MadeCall, Question, Remark, Response
from ..tool_specs import read_tool_spec
from .building import Builder, NamedCall, call_of, text_of
from .conversation import Conversation, LeftOut, about, conversation_of
from .judging import judged, utc
from .messages import how, openai_tool

VERSION = "ATIF-v1.7"
_AXES = ToolResult.model_fields.keys() - {"output"}


def atif_record(trajectory: Trajectory) -> dict[str, Any]:
    """Return a run as an ATIF document; the key `extra` holds what the format has no place for."""
    conversation = conversation_of(trajectory)
    turns = [turn for turn in trajectory.turns if turn.in_context]
    responses = sum(isinstance(remark, Response) for remark in conversation.remarks[conversation.copied :])
    # Joined responses have no metrics of their own.
    metrics = iter([_metrics(turn) for turn in turns] if responses == len(turns) else ())
    steps = [{"source": "system", "message": conversation.system}] if conversation.system else []
    for place, remark in enumerate(conversation.remarks):
        copied = place < conversation.copied
        steps += _steps(remark, {} if copied else next(metrics, {}) if isinstance(remark, Response) else {}, copied)
    return {
        "schema_version": VERSION,
        "session_id": conversation.run_id,
        "trajectory_id": conversation.run_id,
        "agent": _agent(conversation),
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, start=1)],
        "final_metrics": {
            "total_prompt_tokens": sum(turn.reply.reused_tokens + turn.reply.decoded_tokens for turn in turns),
            "total_completion_tokens": sum(len(turn.reply.ids) for turn in turns),
            "total_cached_tokens": sum(turn.reply.reused_tokens for turn in turns),
            "total_steps": len(steps),
        },
        "extra": about(conversation),
    }


def _agent(conversation: Conversation) -> dict[str, Any]:
    agent = {"name": "koboshi", "version": version("koboshi"), "model_name": conversation.model}
    tools = [openai_tool(spec) for spec in conversation.tools]
    return {**agent, "tool_definitions": tools} if tools else agent


def _steps(remark: Remark, metrics: Mapping[str, Any], copied: bool) -> list[dict[str, Any]]:
    mark = {"is_copied_context": True} if copied else {}
    if isinstance(remark, Question):
        return [{"source": "user", "message": remark.text, **mark}]
    step: dict[str, Any] = {"source": "agent", "message": remark.text, **mark}
    if remark.thought:
        step["reasoning_content"] = remark.thought
    if remark.calls:
        step["tool_calls"] = [
            {"tool_call_id": f"call_{at}", "function_name": made.call.name, "arguments": made.call.arguments}
            for at, made in enumerate(remark.calls)
        ]
    results = [_result(at, made) for at, made in enumerate(remark.calls) if made.result]
    if results:
        step["observation"] = {"results": results}
    if metrics:
        step["metrics"] = dict(metrics)
    return [step]


def _result(place: int, made: MadeCall) -> dict[str, Any]:
    assert made.result is not None
    return {"source_call_id": f"call_{place}", "content": made.result.output, "extra": how(made.result)}


def _metrics(turn: TurnRecord) -> dict[str, Any]:
    reply = turn.reply
    if not reply.ids:
        return {}
    found: dict[str, Any] = {
        "prompt_tokens": reply.reused_tokens + reply.decoded_tokens,
        "completion_tokens": len(reply.ids),
        "cached_tokens": reply.reused_tokens,
        "completion_token_ids": list(reply.ids),
    }
    if all(math.isfinite(value) for value in reply.raw_logprobs):
        found["logprobs"] = list(reply.raw_logprobs)
    return found


class _Call(BaseModel):
    tool_call_id: str
    function_name: str = Field(min_length=1)
    arguments: Any = None


class _Result(BaseModel):
    source_call_id: str | None = None
    content: Any = None
    extra: dict[str, Any] | None = None


class _Observation(BaseModel):
    results: list[_Result]


class _Step(BaseModel):
    source: Literal["system", "user", "agent"]
    message: Any
    reasoning_content: str | None = None
    timestamp: str | None = None
    tool_calls: list[_Call] | None = None
    observation: _Observation | None = None
    is_copied_context: bool | None = None


class _Agent(BaseModel):
    model_name: str | None = None
    tool_definitions: list[dict[str, Any]] | None = None


class _Document(BaseModel):
    schema_version: str = Field(pattern=r"^ATIF-v1\.\d+$")
    session_id: str | None = None
    trajectory_id: str | None = None
    agent: _Agent
    steps: list[_Step] = Field(min_length=1)
    extra: dict[str, Any] | None = None


def read_atif(value: Mapping[str, Any]) -> Conversation:
    """Return the conversation of an ATIF document. Raises ValueError for a bad one, LeftOut."""
    document = _Document.model_validate(value)
    said = next((at for at, step in enumerate(document.steps) if step.source != "system"), len(document.steps))
    times = [step.timestamp for step in document.steps if step.timestamp]
    found = judged(document.extra or {})
    copied = [step for step in document.steps[said:] if step.is_copied_context]
    return Conversation(
        remarks=_remarks(document.steps[said:]),
        system="\n\n".join(text_of(step.message) for step in document.steps[:said]),
        tools=tuple(read_tool_spec(spec) for spec in document.agent.tool_definitions or ()),
        copied=len(_remarks(copied)),
        **found
        | {
            "model": found["model"] or document.agent.model_name or "",
            "run_id": found["run_id"] or document.trajectory_id or document.session_id,
            "created_at": found["created_at"] or utc(times[0] if times else None),
        },
    )


def _remarks(steps: Sequence[_Step]) -> tuple[Remark, ...]:
    builder = Builder()
    for step in steps:
        _read(step, builder)
    return builder.done()


def _read(step: _Step, builder: Builder) -> None:
    message = text_of(step.message)
    if step.source == "user":
        builder.question(message)
    elif step.source == "agent":
        calls = [
            NamedCall(call.tool_call_id, call_of(call.function_name, call.arguments)) for call in step.tool_calls or ()
        ]
        builder.response(message, step.reasoning_content or "", calls)
    else:
        raise LeftOut("a system message in the middle of the conversation")
    for result in step.observation.results if step.observation else ():
        _read_result(result, builder)


def _read_result(result: _Result, builder: Builder) -> None:
    content = text_of(result.content)
    if result.source_call_id is None:
        builder.question(content)
        return
    # Other programs have words of their own in `extra`.
    axes = {name: each for name, each in (result.extra or {}).items() if name in _AXES}
    carried_out = {"transport": Transport.OK, **axes, "output": content}
    builder.result(result.source_call_id, ToolResult.model_validate(carried_out))
