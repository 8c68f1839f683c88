"""Read a reply: a call, an answer, or a failure to be either. Text in, value out; nothing is raised and nothing run.

A reply that begins a call and does not finish it is invalid, as is one whose arguments its tool's schema refuses. A
failure keeps how many calls were begun: the rate of invalid calls counts them.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jsonschema

from koboshi_tools import Frozen, ToolCall, ToolSpec, canonical_json

from .formats import ToolFormat, tool_format
from .model import FinishReason, PromptProfile
from .prompt import THINKING, without_thinking

_ERROR_CHARACTERS = 200
_DECODER = json.JSONDecoder()


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
    start = _start_of_calls(found, text) if tools else None
    if start is None:
        if finish is FinishReason.LENGTH:
            return InvalidReply(error="Your reply was too long. Answer shortly.", calls_begun=0)
        return AnswerReply(text=without_thinking(text).strip())
    read = _read_calls(found, text[start:])
    if read.error:
        return InvalidReply(error=read.error, calls_begun=read.begun)
    try:
        calls = tuple(_call(found, value, tools) for value in read.values)
    except _Unreadable as error:
        return InvalidReply(error=str(error), calls_begun=read.begun)
    return CallReply(text=_said_before(found, text[:start]), calls=calls)


def _start_of_calls(found: ToolFormat, text: str) -> int | None:
    """Return where the first opening, or for an `at_start` format the object, stands outside of thoughts."""
    if found.at_start:
        before = re.match(rf"(?:\s*{THINKING.pattern})*\s*(?:{re.escape(found.lead)})?\s*", text, re.DOTALL)
        start = before.end() if before else 0
        return start if text.startswith("{", start) else None
    marks = re.finditer(f"{THINKING.pattern}|{re.escape(found.tag)}", text, re.DOTALL)
    return next((mark.start() for mark in marks if mark.group() == found.tag), None)


def _said_before(found: ToolFormat, text: str) -> str:
    return "" if found.at_start else without_thinking(text).strip()


class _Read(NamedTuple):
    """The JSON of the calls of a reply, how many were begun, and what is wrong with the last of them, if anything."""

    values: tuple[Any, ...]
    begun: int
    error: str | None = None


def _read_calls(found: ToolFormat, text: str) -> _Read:
    """Read from the first opening on. JSON is decoded where it stands, so markup inside its strings stays a string."""
    values: list[Any] = []
    try:
        if found.at_start:
            value, end = _json_at(text, 0)
            _end_of_text(text, end)
            values.append(value)
        elif found.listed:
            _read_list(text, len(found.tag), values)
        else:
            _read_tagged(found, text, values)
    except _Unreadable as error:
        return _Read(tuple(values), len(values) + 1, str(error))
    return _Read(tuple(values), len(values))


def _read_tagged(found: ToolFormat, text: str, values: list[Any]) -> None:
    """Append each call between its tags; what stands between a closing and the next opening is skipped."""
    closing, start = found.closing.strip(), 0
    while start >= 0:
        value, end = _json_at(text, start + len(found.tag))
        end = _skip_blanks(text, end)
        if not text.startswith(closing, end):
            raise _Unreadable("Your tool call was not finished.")
        values.append(value)
        start = text.find(found.tag, end + len(closing))


def _read_list(text: str, start: int, values: list[Any]) -> None:
    """Append the calls of one JSON list, or one bare call."""
    at = _skip_blanks(text, start)
    if not text.startswith("[", at):
        value, at = _json_at(text, at)
        _end_of_text(text, at)
        values.append(value)
        return
    while True:
        value, at = _json_at(text, at + 1)
        at = _skip_blanks(text, at)
        if not text.startswith((",", "]"), at):
            raise _Unreadable("Your list of tool calls was not finished.")
        if text.startswith("]", at):
            _end_of_text(text, at + 1)
        values.append(value)
        if text.startswith("]", at):
            return


def _json_at(text: str, start: int) -> tuple[Any, int]:
    start = _skip_blanks(text, start)
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"Your tool call is not valid JSON: {error}"[:_ERROR_CHARACTERS]) from None


def _skip_blanks(text: str, start: int) -> int:
    return len(text) - len(text[start:].lstrip())


def _end_of_text(text: str, end: int) -> None:
    if text[end:].strip():
        raise _Unreadable("Write nothing after a tool call.")


def _call(found: ToolFormat, value: Any, tools: Sequence[ToolSpec]) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise _Unreadable('A tool call is a JSON object with "name" and "' + found.arguments_key + '".')
    arguments = value.get(found.arguments_key, {})
    if not isinstance(arguments, dict):
        raise _Unreadable(f'"{found.arguments_key}" is an object.')
    try:
        canonical_json(value).encode()
    except ValueError:
        raise _Unreadable("A tool call holds numbers and text only, no NaN, infinity or half a character.") from None
    call = ToolCall(name=value["name"], arguments=arguments)
    _check(call, tools)
    return call


def _check(call: ToolCall, tools: Sequence[ToolSpec]) -> None:
    spec = next((tool for tool in tools if tool.name == call.name), None)
    if spec is None:
        raise _Unreadable(f"There is no tool {call.name!r}. Tools: {', '.join(tool.name for tool in tools)}.")
    try:
        validator = _validator(canonical_json(spec.parameters))
        error = jsonschema.exceptions.best_match(validator.iter_errors(call.arguments))
    except Exception as broken:
        # A malformed schema fails inside jsonschema in as many ways as it can be malformed.
        raise _Unreadable(f"The arguments of {call.name} cannot be checked: {broken}"[:_ERROR_CHARACTERS]) from None
    if error is not None:
        raise _Unreadable(f"Wrong arguments for {call.name}: {error.message}"[:_ERROR_CHARACTERS])


@lru_cache(maxsize=512)
def _validator(schema_json: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema_json))
