"""ShareGPT in the manner of Hermes' function calling: `conversations` of system, human, gpt and tool.

Calls stand in the text of `gpt` between `<tool_call>` tags, results between `<tool_response>` tags, thoughts between
`<think>` tags, and `tools` is the JSON text of the definitions; a `<tools>` block of the system text is read as well.
Hermes Agent saves its trajectories so. Text is written as it is: one that holds such tags itself cannot be told from
them when it is read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from koboshi_tools import ToolResult, ToolSpec, Transport

from ..formats import HERMES
from ..prompt import render_calls
from ..strict_json import loads
from ..talk import Question, Remark, Response
from ..tool_specs import read_tool_spec
from .building import Builder, NamedCall, call_of
from .conversation import Conversation, LeftOut, about, split_thought, with_thought
from .judging import judged
from .messages import how, openai_tool

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)


def sharegpt_record(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a line of a ShareGPT file."""
    turns = [{"from": "system", "value": conversation.system}] if conversation.system else []
    results = []
    for remark in conversation.remarks:
        turns += _turns(remark)
        calls = remark.calls if isinstance(remark, Response) else ()
        results += [how(made.result) for made in calls if made.result]
    tools = [openai_tool(spec) for spec in conversation.tools]
    return {
        "conversations": turns,
        **({"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}),
        **about(conversation),
        **({"results": results} if results else {}),
        **({"copied": conversation.copied} if conversation.copied else {}),
    }


def _turns(remark: Remark) -> list[dict[str, str]]:
    if isinstance(remark, Question):
        return [{"from": "human", "value": remark.text}]
    calls = render_calls(HERMES, [made.call for made in remark.calls])
    said = "\n".join(part for part in (remark.text, calls) if part)
    turns = [{"from": "gpt", "value": with_thought(said, remark.thought)}]
    outputs = [made.result.output for made in remark.calls if made.result]
    if outputs:
        shown = "\n".join(f"<tool_response>\n{output}\n</tool_response>" for output in outputs)
        turns.append({"from": "tool", "value": shown})
    return turns


class _Turn(BaseModel):
    speaker: Literal["system", "human", "user", "gpt", "assistant", "tool", "observation"] = Field(alias="from")
    value: str


class _Record(BaseModel):
    conversations: list[_Turn]
    tools: str | list[dict[str, Any]] | None = None
    results: list[dict[str, Any]] = []
    copied: int = Field(default=0, ge=0)


def read_sharegpt(value: Mapping[str, Any]) -> Conversation:
    """Return the conversation of a record with `conversations`. Raises ValueError for a bad one, LeftOut."""
    record = _Record.model_validate(value)
    turns = record.conversations
    said = next((place for place, turn in enumerate(turns) if turn.speaker != "system"), len(turns))
    builder, hows = Builder(), iter(record.results) if record.results else None
    for turn in turns[said:]:
        _read(turn, builder, hows)
    system = "\n\n".join(turn.value for turn in turns[:said])
    found = judged(value)
    return Conversation(
        remarks=builder.done(),
        system=_TOOLS.sub("", system).strip() if _TOOLS.search(system) else system,
        tools=_tools(record.tools, system),
        copied=record.copied,
        **found | {"created_at": found["created_at"] or _time(value)},
    )


def _time(value: Mapping[str, Any]) -> str | None:
    time: str | None = judged({"created_at": value.get("timestamp")})["created_at"]
    return time


def _tools(given: str | list[dict[str, Any]] | None, system: str) -> tuple[ToolSpec, ...]:
    block = _TOOLS.search(system)
    text = given if isinstance(given, str) else block[1] if given is None and block else "[]"
    specs = loads(text or "[]", any_text=True) if not isinstance(given, list) else given
    if not isinstance(specs, list):
        raise ValueError("tools is a list of definitions, or the JSON text of one")
    return tuple(read_tool_spec(spec) for spec in specs)


def _read(turn: _Turn, builder: Builder, hows: Iterator[dict[str, Any]] | None) -> None:
    """Add a turn; `hows` says how calls were carried out, None in a record that another program wrote."""
    if turn.speaker in ("human", "user"):
        builder.question(turn.value)
    elif turn.speaker in ("gpt", "assistant"):
        said, thought = split_thought(turn.value)
        calls = [NamedCall(None, _call(found[1])) for found in _CALL.finditer(said)]
        builder.response(said[: said.find("<tool_call>")] if calls else said, thought, calls)
    elif turn.speaker == "system":
        raise LeftOut("a system message in the middle of the conversation")
    else:
        for output in _RESULT.findall(turn.value) or [turn.value]:
            carried_out = next(hows, {}) if hows else {"transport": Transport.OK}
            given = output if hows else _unwrapped(output)
            builder.result(None, ToolResult.model_validate({**carried_out, "output": given}))


def _call(text: str) -> Any:
    try:
        value = loads(text, any_text=True)
    except ValueError:
        raise LeftOut("a call that is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise LeftOut("a call without the name of its function")
    return call_of(value["name"], value.get("arguments"))


def _unwrapped(text: str) -> str:
    """Return what a call gave; Hermes Agent wraps it in an object with the name of the tool and the id of the call."""
    try:
        value = loads(text, any_text=True)
    except ValueError:
        return text
    if not isinstance(value, dict) or not {"name", "content"} <= value.keys() <= {"name", "content", "tool_call_id"}:
        return text
    content = value["content"]
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
