"""`execute`: whatever a tool does is a result."""

import asyncio
import sys
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from koboshi_tools import Tool, ToolCall, ToolContext, ToolError, ToolResult, ToolVerdict, Transport, execute, tool


def run(made: Tool, *, timeout_s: float = 20, max_output_bytes: int = 1000, **arguments: Any) -> ToolResult:
    call = ToolCall(name=made.spec.name, arguments=arguments)
    context = ToolContext(Path("/nowhere"), {"key": "value"})
    return asyncio.run(execute(call, made, context, timeout_s=timeout_s, max_output_bytes=max_output_bytes))


def returning(value: Any) -> Tool:
    def give() -> Any:
        """Give."""
        return value

    return tool(give)


def raising(error: BaseException) -> Tool:
    def fail() -> None:
        """Fail."""
        raise error

    return tool(fail)


def test_a_call_gives_its_text_and_its_seconds() -> None:
    result = run(returning("hello"))
    assert (result.transport, result.verdict, result.output) == (Transport.OK, ToolVerdict.OK, "hello")
    assert 0 < result.seconds < 20
    assert not result.truncated


class Answer(BaseModel):
    day: date


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (None, "done"),
        (5, "5"),
        (True, "true"),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
        (Answer(day=date(2024, 2, 29)), '{"day":"2024-02-29"}'),
        ("a\ud800b", "a?b"),
    ],
)
def test_what_is_not_text_becomes_json(value: Any, output: str) -> None:
    assert run(returning(value)).output == output


def test_an_answer_that_is_neither_is_the_tools_error() -> None:
    result = run(returning(object()))
    assert (result.transport, result.verdict) == (Transport.ERROR, None)
    assert result.output == "TypeError: the tool returned object, which is neither text nor JSON"


def test_bad_arguments_never_reach_the_tool() -> None:
    reached: list[int] = []

    @tool
    def count(number: int) -> None:
        """Count."""
        reached.append(number)

    result = run(count, number="many")
    assert (result.transport, result.verdict, reached) == (Transport.INVALID, None, [])
    assert result.output.startswith("number: input should be a valid integer")


def test_a_tool_error_is_an_answer() -> None:
    result = run(raising(ToolError("no such order")))
    assert (result.transport, result.verdict, result.output) == (Transport.OK, ToolVerdict.ERROR, "no such order")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        RecursionError("bad"),
        SystemExit("bad"),
        KeyboardInterrupt("bad"),
        TimeoutError("bad"),
        asyncio.CancelledError("bad"),
        StopIteration("bad"),
        MemoryError("bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_exception_is_a_transport_error_with_its_type(error: BaseException) -> None:
    result = run(raising(error))
    assert (result.transport, result.verdict) == (Transport.ERROR, None)
    assert result.output == f"{type(error).__name__}: bad"


def test_a_call_that_does_not_return_is_given_up() -> None:
    release = threading.Event()

    @tool
    def wait() -> None:
        """Wait."""
        release.wait(30)

    result = run(wait, timeout_s=0.05)
    release.set()
    assert (result.transport, result.verdict) == (Transport.TIMEOUT, None)
    assert result.output == "wait gave no answer within 0.05 s"
    assert 0.05 <= result.seconds < 20


def test_calls_given_up_leave_room_for_others() -> None:
    release = threading.Event()

    @tool
    def wait() -> None:
        """Wait."""
        release.wait(30)

    async def many() -> list[ToolResult]:
        context = ToolContext(Path("/nowhere"))
        call = ToolCall(name="wait", arguments={})
        await asyncio.gather(*(execute(call, wait, context, timeout_s=0.01) for _ in range(60)))
        return [await execute(ToolCall(name="give", arguments={}), returning("ok"), context)]

    assert asyncio.run(many())[0].output == "ok"
    release.set()


@pytest.mark.parametrize("text", ["é" * 50, "€" * 50, "𝄞" * 50, "a" * 50])
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 5, 49, 1000])
def test_output_is_cut_at_a_characters_end(text: str, limit: int) -> None:
    result = run(returning(text), max_output_bytes=limit)
    assert len(result.output.encode()) <= limit
    assert text.startswith(result.output)
    assert result.truncated == (len(text.encode()) > limit)


def test_the_context_is_given_to_those_who_ask() -> None:
    @tool
    def look(context: ToolContext, name: str) -> str:
        """Look."""
        return f"{context.workspace} {context.settings[name]}"

    assert run(look, name="key").output == "/nowhere value"
    assert run(look, name="key", context="forged").transport is Transport.INVALID


def test_an_async_tool_runs_too() -> None:
    @tool
    async def later(number: int) -> int:
        """Later."""
        await asyncio.sleep(0)
        return number + 1

    assert run(later, number=1).output == "2"


def test_a_tool_that_asks_for_what_is_not_there_is_an_error() -> None:
    def look() -> str:
        """Look."""
        return str(getattr(sys, "nothing_of_that_name"))  # noqa: B009

    action: Callable[[], str] = look
    assert run(tool(action)).output.startswith("AttributeError: ")
