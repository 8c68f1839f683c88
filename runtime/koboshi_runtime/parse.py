"""Read a reply: a call, an answer, or a failure to be either. Text in, value out; nothing is raised and nothing run.

A reply that begins a call and does not finish it is invalid, as is one whose arguments its tool's schema refuses. A
failure keeps how many calls were begun: the rate of invalid calls counts them.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jsonschema

from koboshi_tools import Frozen, ToolCall, ToolSpec, canonical_json

from .formats import ToolFormat, tool_format
from .model import FinishReason, PromptProfile
from .prompt import without_thinking

_ERROR_CHARACTERS = 200


class CallReply(Frozen):
    """Text before the calls, and the calls in their order, each accepted by its schema."""

    text: str
    calls: tuple[ToolCall, ...]


class AnswerReply(Frozen):
    """A final answer."""

    text: str


class InvalidReply(Frozen):
    """A reply that is neither; `error` is written for the model."""

    error: str
    calls_begun: int


ParsedReply = CallReply | AnswerReply | InvalidReply


class _Unreadable(Exception):
    """Carries the sentence for the model."""


def parse_reply(profile: PromptProfile, text: str, finish: FinishReason, tools: Sequence[ToolSpec]) -> ParsedReply:
    """Return what a reply means to a run that was offered `tools`."""
    found = tool_format(profile.tool_format)
    visible = without_thinking(text)
    start = _start_of_calls(found, visible) if tools else None
    if start is None:
        if finish is FinishReason.LENGTH:
            return InvalidReply(error="Your reply was too long. Answer shortly.", calls_begun=0)
        return AnswerReply(text=visible.strip())
    bodies = _bodies(found, visible[start:])
    try:
        calls = _calls(found, bodies, tools)
    except _Unreadable as error:
        return InvalidReply(error=str(error), calls_begun=len(bodies))
    return CallReply(text=visible[:start].strip(), calls=calls)


def _start_of_calls(found: ToolFormat, text: str) -> int | None:
    if found.at_start:
        opens = text.lstrip().removeprefix("<|python_tag|>").startswith("{")
        return 0 if opens else None
    position = text.find(found.opening.split()[0])
    return position if position >= 0 else None


def _bodies(found: ToolFormat, text: str) -> list[str]:
    if found.at_start:
        return [text.strip().removeprefix("<|python_tag|>")]
    return [part.strip() for part in text.split(found.opening.split()[0])[1:]]


def _calls(found: ToolFormat, bodies: Sequence[str], tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...]:
    values = [_json_of(_unclosed(found, body)) for body in bodies]
    if found.listed:
        values = [
            value for value_list in values for value in (value_list if isinstance(value_list, list) else [value_list])
        ]
    return tuple(_call(found, value, tools) for value in values)


def _unclosed(found: ToolFormat, body: str) -> str:
    closing = found.closing.strip()
    if not closing or found.listed:
        return body
    if closing not in body:
        raise _Unreadable("Your tool call was not finished.")
    return body[: body.index(closing)]


def _call(found: ToolFormat, value: Any, tools: Sequence[ToolSpec]) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise _Unreadable('A tool call is a JSON object with "name" and "' + found.arguments_key + '".')
    arguments = value.get(found.arguments_key, {})
    if not isinstance(arguments, dict):
        raise _Unreadable(f'"{found.arguments_key}" is an object.')
    call = ToolCall(name=value["name"], arguments=arguments)
    _check(call, tools)
    return call


def _json_of(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise _Unreadable(f"Your tool call is not valid JSON: {error}"[:_ERROR_CHARACTERS]) from None


def _check(call: ToolCall, tools: Sequence[ToolSpec]) -> None:
    spec = next((tool for tool in tools if tool.name == call.name), None)
    if spec is None:
        raise _Unreadable(f"There is no tool {call.name!r}. Tools: {', '.join(tool.name for tool in tools)}.")
    error = jsonschema.exceptions.best_match(_validator(canonical_json(spec.parameters)).iter_errors(call.arguments))
    if error is not None:
        raise _Unreadable(f"Wrong arguments for {call.name}: {error.message}"[:_ERROR_CHARACTERS])


@lru_cache(maxsize=512)
def _validator(schema_json: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema_json))
