"""OpenAI chat messages with tool definitions, a conversation a line: what trainers read and most programs write.

Written are `messages` and `tools` as the API has them, and beside them `about`: run, outcome, purpose, model. `results`
holds, for each tool message in order, how the call was carried out, which the API has no place for; `copied` says how
many questions and responses at the beginning belong to earlier runs.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Literal

from pydantic import BaseModel, Field

from koboshi_tools import ToolCall, ToolResult, ToolSpec, Transport

from ..talk import MadeCall, Question, Remark, Response
from ..tool_specs import read_tool_spec
from .building import Builder, NamedCall, call_of, text_of
from .conversation import Conversation, LeftOut, about
from .judging import judged

_SYSTEM = ("system", "developer")


def openai_record(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a line of a file of OpenAI messages."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": conversation.system}] if conversation.system else []
    results = []
    numbers = count()
    for remark in conversation.remarks:
        messages += _messages(remark, numbers)
        results += [made.result for made in _made(remark) if made.result]
    return {
        "messages": messages,
        "tools": [openai_tool(spec) for spec in conversation.tools],
        **about(conversation),
        **({"results": [how(result) for result in results]} if results else {}),
        **({"copied": conversation.copied} if conversation.copied else {}),
    }


def openai_tool(spec: ToolSpec) -> dict[str, Any]:
    """Return a tool's definition as the OpenAI API has it."""
    return {"type": "function", "function": spec.model_dump(mode="json")}


def how(result: ToolResult) -> dict[str, Any]:
    """Return how a call was carried out, without what it gave."""
    return result.model_dump(mode="json", exclude={"output"}, exclude_defaults=True)


def read_openai(value: Mapping[str, Any]) -> Conversation:
    """Return the conversation of a record with `messages`. Raises ValueError for a bad one, LeftOut."""
    record = _Record.model_validate(value)
    begins = [message.role for message in record.messages]
    said = next((place for place, role in enumerate(begins) if role not in _SYSTEM), len(begins))
    if any(role in _SYSTEM for role in begins[said:]):
        raise LeftOut("a system message in the middle of the conversation")
    builder, hows = Builder(), iter(record.results)
    for message in record.messages[said:]:
        _read(message, builder, hows)
    return Conversation(
        remarks=builder.done(),
        system="\n\n".join(text_of(message.content) for message in record.messages[:said]),
        tools=tuple(read_tool_spec(spec) for spec in record.tools or record.functions or ()),
        copied=record.copied,
        **judged(value),
    )


def _made(remark: Remark) -> tuple[MadeCall, ...]:
    return remark.calls if isinstance(remark, Response) else ()


def _messages(remark: Remark, numbers: Iterator[int]) -> list[dict[str, Any]]:
    if isinstance(remark, Question):
        return [{"role": "user", "content": remark.text}]
    thought = {"reasoning_content": remark.thought} if remark.thought else {}
    if not remark.calls:
        return [{"role": "assistant", "content": remark.text, **thought}]
    named = [(f"call_{next(numbers)}", made) for made in remark.calls]
    calls = [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": made.call.name, "arguments": json.dumps(made.call.arguments, ensure_ascii=False)},
        }
        for call_id, made in named
    ]
    results = [
        {"role": "tool", "tool_call_id": call_id, "content": made.result.output}
        for call_id, made in named
        if made.result
    ]
    return [{"role": "assistant", "content": remark.text or None, "tool_calls": calls, **thought}, *results]


class _Function(BaseModel):
    name: str = Field(min_length=1)
    arguments: Any = None


class _Call(BaseModel):
    id: str | None = None
    function: _Function | None = None


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None


class _Record(BaseModel):
    messages: list[_Message]
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    results: list[dict[str, Any]] = []
    copied: int = Field(default=0, ge=0)


def _read(message: _Message, builder: Builder, hows: Iterator[dict[str, Any]]) -> None:
    content = text_of(message.content)
    if message.role == "user":
        builder.question(content)
    elif message.role == "assistant":
        thought = text_of(message.reasoning_content or message.reasoning)
        builder.response(content, thought, _calls(message))
    else:
        carried_out = {"transport": Transport.OK, **next(hows, {}), "output": content}
        builder.result(message.tool_call_id, ToolResult.model_validate(carried_out))


def _calls(message: _Message) -> list[NamedCall]:
    found = [(call.id, call.function) for call in message.tool_calls or ()]
    if message.function_call:
        found.append((None, message.function_call))
    return [NamedCall(call_id, _call(function)) for call_id, function in found]


def _call(function: _Function | None) -> ToolCall:
    if function is None:
        raise LeftOut("a call that is no function's")
    return call_of(function.name, function.arguments)
