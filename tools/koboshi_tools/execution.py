"""Carry out one call of a tool, and say what became of it.

`execute` never raises for what a tool does: whatever happens is a `ToolResult`. Bad arguments are `invalid` and the
tool is not reached; a `ToolError` is an answer, transport `ok` and verdict `error`; any other exception is transport
`error`.

Covered: time, the size of the output, text that is not valid Unicode, a tool that tries to exit the process. Not
covered: memory and processor time, and a call that timed out, which goes on in its thread until it returns by itself.
A tool runs in this process and can do whatever this process can: policy decides what may run, and nothing here
confines it.
"""

import asyncio
import inspect
import threading
from time import perf_counter
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from .arguments import InvalidArgumentsError
from .definition import Tool, ToolContext
from .errors import ToolError
from .values import ToolCall, ToolResult, ToolVerdict, Transport

_MAX_ERROR_CHARACTERS = 500


async def execute(
    call: ToolCall, tool: Tool, context: ToolContext, *, timeout_s: float = 30.0, max_output_bytes: int = 8192
) -> ToolResult:
    """Run `call` on `tool` and return what came back.

    Args:
        call: what the model asked for; its arguments are checked here.
        tool: the tool of that name.
        context: given to the tool if it asks for it.
        timeout_s: seconds until the call is given up.
        max_output_bytes: bytes of UTF-8 after which the output is cut, at a character's end.
    """
    started = perf_counter()
    try:
        values = tool.arguments.bind(call.arguments)
    except InvalidArgumentsError as error:
        return _result(Transport.INVALID, None, str(error)[:_MAX_ERROR_CHARACTERS], started, max_output_bytes)
    if tool.arguments.wants_context:
        values["context"] = context
    try:
        output = await asyncio.wait_for(_run(tool, values), timeout_s)
    except TimeoutError:
        # The tool's own TimeoutError arrives as _ToolFailedError, so this one is ours.
        message = f"{call.name} gave no answer within {timeout_s:g} s"
        return _result(Transport.TIMEOUT, None, message, started, max_output_bytes)
    except _ToolFailedError as failed:
        transport, verdict, message = _failure(failed.cause)
        return _result(transport, verdict, message, started, max_output_bytes)
    return _result(Transport.OK, ToolVerdict.OK, output, started, max_output_bytes)


class _ToolFailedError(Exception):
    """Carries whatever a tool raised past asyncio, which gives TimeoutError and CancelledError a meaning of its own."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _run(tool: Tool, values: dict[str, Any]) -> str:
    """Run a tool and return its output as text. Every call passes here: confinement by effect class belongs here.

    Each call has a daemon thread of its own rather than a place in a pool: one that never returns would hold its place
    for good, and a pool's threads are waited for when the process ends.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def work() -> None:
        try:
            output = _as_text(_call(tool, values))
        except BaseException as error:
            # SystemExit too: a tool must not end the process, nor leave its caller without an answer.
            _deliver(loop, answer, _ToolFailedError(error))
        else:
            _deliver(loop, answer, output)

    threading.Thread(target=work, name=f"koboshi-tool-{tool.spec.name}", daemon=True).start()
    return await answer


def _call(tool: Tool, values: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(tool.function):
        return asyncio.run(tool.function(**values))
    return tool.function(**values)


def _deliver(loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[str]", found: str | Exception) -> None:
    def settle() -> None:
        if answer.done():
            return
        if isinstance(found, str):
            answer.set_result(found)
        else:
            answer.set_exception(found)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop is closed: nobody waits for this call any more.
        return


def _as_text(output: Any) -> str:
    """Return what a tool returned as text: a string as it is, None as "done", anything else as JSON."""
    if isinstance(output, str):
        return output
    if output is None:
        return "done"
    if isinstance(output, BaseModel):
        return output.model_dump_json()
    try:
        return to_json(output).decode()
    except PydanticSerializationError as error:
        raise TypeError(f"the tool returned {type(output).__name__}, which is neither text nor JSON") from error


def _failure(cause: BaseException) -> tuple[Transport, ToolVerdict | None, str]:
    if isinstance(cause, ToolError):
        return Transport.OK, ToolVerdict.ERROR, str(cause)
    return Transport.ERROR, None, f"{type(cause).__name__}: {cause}"[:_MAX_ERROR_CHARACTERS]


def _result(
    transport: Transport, verdict: ToolVerdict | None, text: str, started: float, max_output_bytes: int
) -> ToolResult:
    data = text.encode("utf-8", errors="replace")
    return ToolResult(
        transport=transport,
        verdict=verdict,
        output=data[:max_output_bytes].decode("utf-8", errors="ignore"),
        seconds=perf_counter() - started,
        truncated=len(data) > max_output_bytes,
    )
