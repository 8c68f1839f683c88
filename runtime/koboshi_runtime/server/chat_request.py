"""A request for a chat completion, as OpenAI's clients send it, in our words.

Taken in: text messages, function tools, also forced ones, sampling, stop texts, streaming. What changes nothing here is
ignored (`user`, `metadata`, `store`, ...). What cannot be kept is refused by its name and never ignored: several
choices, structured answers, log-probabilities, penalties, pictures and sound.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from koboshi_tools import ToolCall

from ..conversation.messages import Asked, CallOutput, Manner, Message, Said, Told
from ..tool_specs import read_tool_spec
from .errors import ApiError, bad_field

_SEEDS = 1 << 31
_MAX_CALLS = 4
"""In one reply, as in a run of the agent."""

# Fields that cannot be kept, with the values of them that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "response_format": (None, {"type": "text"}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "functions": (None, []),
    "function_call": (None, "auto", "none"),
}


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class CallFunction(_Lenient):
    """The function of a call; `arguments` is JSON in a string."""

    name: str
    arguments: str = "{}"


class RequestCall(_Lenient):
    """A call that an assistant's message made."""

    id: str
    function: CallFunction


class RequestMessage(_Lenient):
    """One message. `is_error` on a tool's message says that the tool failed; OpenAI's own clients never send it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[RequestCall] | None = None
    tool_call_id: str | None = None
    is_error: bool | None = None


class ToolName(_Lenient):
    """A function by its name."""

    name: str


class NamedTool(_Lenient):
    """The one function that must be called."""

    type: Literal["function"]
    function: ToolName


class StreamOptions(_Lenient):
    """What a stream tells besides."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of `POST /v1/chat/completions`; what is not named here stays in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str
    messages: list[RequestMessage] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    def refuse_unkeepable(self) -> None:
        """Raise ApiError for the first field that asks for what cannot be given."""
        asked = self.model_extra or {}
        for name, neutral in _NEUTRAL.items():
            if (value := asked.get(name)) not in neutral:
                raise bad_field(name, f"{name} = {json.dumps(value)[:80]} cannot be kept here: leave it out")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a request says nothing."""

    temperature: float
    top_p: float
    max_tokens: int
    project: str


def read_manner(request: ChatRequest, defaults: Defaults) -> Manner:
    """Return how the reply is to be drawn. Raises ApiError for a tool that is none."""
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    offered = request.tools if request.tool_choice != "none" else None
    try:
        tools = tuple(read_tool_spec(tool) for tool in offered or ())
    except ValueError as error:
        raise bad_field("tools", str(error)) from error
    if len({tool.name for tool in tools}) < len(tools):
        raise bad_field("tools", "two tools have one name")
    only = request.tool_choice.function.name if isinstance(request.tool_choice, NamedTool) else None
    must_call = only is not None or request.tool_choice == "required"
    if must_call and (not tools or only not in (None, *(tool.name for tool in tools))):
        raise bad_field("tool_choice", f"{only or 'a tool'} is to be called, and is not among the tools")
    return Manner(
        system=_system(request.messages),
        tools=tools,
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        top_p=request.top_p or defaults.top_p,
        # Without a seed two equal requests are two draws, as with OpenAI.
        seed=secrets.randbelow(_SEEDS) if request.seed is None else abs(request.seed),
        max_tokens=request.max_completion_tokens or request.max_tokens or defaults.max_tokens,
        stop_texts=tuple(stop for stop in stops if stop),
        project=defaults.project,
        must_call=must_call,
        only=only,
        max_calls=1 if request.parallel_tool_calls is False else _MAX_CALLS,
    )


def _system(messages: Sequence[RequestMessage]) -> str:
    first = next(
        (n for n, message in enumerate(messages) if message.role not in ("system", "developer")), len(messages)
    )
    if any(message.role in ("system", "developer") for message in messages[first:]):
        raise bad_field("messages", "a system message stands behind the conversation's beginning: put it first")
    return "\n\n".join(_text(message, n) for n, message in enumerate(messages[:first]))


@dataclass(frozen=True, slots=True)
class Heard:
    """A message in our words, with the ids that the client knows its calls by."""

    message: Message
    call_ids: tuple[str, ...] = ()


def read_messages(messages: Sequence[RequestMessage]) -> list[Heard]:
    """Return the messages without the system's; the results of one reply's calls are one message.

    Raises ApiError for a call without a result, and for a result without a call.
    """
    found: list[Heard] = []
    place = 0
    while place < len(messages):
        message = messages[place]
        match message.role:
            case "user":
                found.append(Heard(Asked(text=_text(message, place))))
            case "assistant":
                found.append(_said(message, place))
            case "tool":
                behind = next((n for n, m in enumerate(messages[place:]) if m.role != "tool"), len(messages) - place)
                found.append(Heard(_told(messages[place : place + behind], place, found)))
                place += behind - 1
            case "system" | "developer":
                pass
        place += 1
    _refuse_unanswered(found)
    return found


def _said(message: RequestMessage, place: int) -> Heard:
    calls = []
    for call in message.tool_calls or ():
        try:
            arguments = json.loads(call.function.arguments or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise bad_field(f"messages.{place}.tool_calls", f"the arguments of {call.function.name} are no JSON object")
        calls.append(ToolCall(name=call.function.name, arguments=arguments))
    said = Said(text=_text(message, place), calls=tuple(calls))
    return Heard(said, tuple(call.id for call in message.tool_calls or ()))


def _told(results: Sequence[RequestMessage], place: int, before: Sequence[Heard]) -> Told:
    asked = before[-1] if before else None
    calls = asked.message.calls if asked and isinstance(asked.message, Said) else ()
    by_id = {result.tool_call_id: (result, place + n) for n, result in enumerate(results)}
    wanted = asked.call_ids if asked else ()
    if set(by_id) != set(wanted) or len(by_id) != len(results):
        raise bad_field(
            f"messages.{place}",
            f"these results are for {sorted(map(str, by_id))}, and the calls before them are {sorted(wanted)}",
        )
    found = [(call, *by_id[call_id]) for call, call_id in zip(calls, wanted, strict=True)]
    return Told(results=tuple(_call_output(call.name, result, at) for call, result, at in found))


def _call_output(tool: str, result: RequestMessage, place: int) -> CallOutput:
    output = _text(result, place)
    failed = _says_error(output) if result.is_error is None else result.is_error
    return CallOutput(tool=tool, output=output, failed=failed)


def _says_error(output: str) -> bool:
    """Say whether a tool's output is JSON that calls itself an error; a client has no other place to say so."""
    try:
        value = json.loads(output) if output.lstrip().startswith("{") else None
    except ValueError:
        return False
    return isinstance(value, dict) and any(value.get(name) for name in ("error", "isError", "is_error"))


def _refuse_unanswered(found: Sequence[Heard]) -> None:
    for place, heard in enumerate(found):
        following = found[place + 1].message if place + 1 < len(found) else None
        if heard.call_ids and not isinstance(following, Told):
            raise bad_field("messages", f"the calls {', '.join(heard.call_ids)} have no results behind them")


def _text(message: RequestMessage, place: int) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    parts = []
    for part in message.content:
        if part.get("type") not in ("text", "refusal") or not isinstance(part.get(part["type"]), str):
            kind = part.get("type")
            raise ApiError(
                400,
                f"a part of type {kind!r}: this model reads text only",
                code="invalid_value",
                param=f"messages.{place}.content",
            )
        parts.append(part[part["type"]])
    return "".join(parts)
