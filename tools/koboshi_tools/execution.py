"""Carry out one call of a tool, and say what became of it.

`execute` never raises for what a tool does: whatever happens is a `ToolResult`. Bad arguments are `invalid` and the
tool is not reached; a `ToolError` is an answer, transport `ok` and verdict `error`; any other exception is transport
`error`. A tool with a sandbox profile runs in its own sandboxed process, or, where this machine has no sandbox, not at
all: transport `denied`, saying what is missing.

Covered for tools in this process: time, the size of the output, text that is not valid Unicode, a tool that tries to
exit. Not covered for them: memory and processor time, and a call that timed out, which goes on in its thread until it
returns by itself; such a tool can do whatever this process can. What a sandbox covers is said in `sandbox/keepers.py`.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .arguments import InvalidArgumentsError
from .calling import MAX_ERROR_CHARACTERS, call_tool, failure_text
from .definition import Tool, ToolContext
from .errors import NoSandboxError, ToolError
from .fetching import fetch_answer
from .sandbox.keepers import CallTimeoutError, Running, Sandbox, default_sandbox
from .sandbox.wire import Answer, Job
from .values import EffectClass, ToolCall, ToolResult, ToolVerdict, Transport


async def execute(
    call: ToolCall,
    tool: Tool,
    context: ToolContext,
    *,
    timeout_s: float = 30.0,
    max_output_bytes: int = 8192,
    sandbox: Sandbox | None = None,
) -> ToolResult:
    """Run `call` on `tool` and return what came back.

    Args:
        call: what the model asked for; its arguments are checked here.
        tool: the tool of that name.
        context: given to the tool if it asks for it.
        timeout_s: seconds until the call is given up, and ended if it is sandboxed.
        max_output_bytes: bytes of UTF-8 after which the output is cut, at a character's end.
        sandbox: where a tool with a profile runs, by default the process's own.
    """
    started = perf_counter()
    try:
        values = tool.arguments.bind(call.arguments)
    except InvalidArgumentsError as error:
        return _result(Transport.INVALID, None, str(error)[:MAX_ERROR_CHARACTERS], started, max_output_bytes)
    try:
        answer = await (
            _here(tool, values, context, timeout_s)
            if tool.profile is None
            else _sandboxed(call, tool, context, sandbox or default_sandbox(), timeout_s, max_output_bytes)
        )
    except (TimeoutError, CallTimeoutError):
        # The tool's own TimeoutError is an answer by now, so this one is ours.
        message = f"{call.name} gave no answer within {timeout_s:g} s"
        return _result(Transport.TIMEOUT, None, message, started, max_output_bytes)
    except NoSandboxError as error:
        return _result(Transport.DENIED, None, f"{call.name} was not run: {error}", started, max_output_bytes)
    transport, verdict = _AXES[answer.kind]
    return _result(transport, verdict, answer.text, started, max_output_bytes, is_cut=answer.truncated)


_AXES: dict[str, tuple[Transport, ToolVerdict | None]] = {
    "ok": (Transport.OK, ToolVerdict.OK),
    "tool_error": (Transport.OK, ToolVerdict.ERROR),
    "failed": (Transport.ERROR, None),
}


async def _here(tool: Tool, values: dict[str, Any], context: ToolContext, timeout_s: float) -> Answer:
    if tool.arguments.wants_context:
        values["context"] = context
    return await asyncio.wait_for(_in_thread(tool, lambda: _answer_here(tool, values)), timeout_s)


def _answer_here(tool: Tool, values: dict[str, Any]) -> Answer:
    try:
        return Answer(kind="ok", text=_utf8(call_tool(tool, values)))
    except ToolError as error:
        return Answer(kind="tool_error", text=_utf8(str(error)))
    except BaseException as error:
        # SystemExit too: a tool must not end the process, nor leave its caller without an answer.
        return Answer(kind="failed", text=_utf8(failure_text(error)))


async def _sandboxed(
    call: ToolCall, tool: Tool, context: ToolContext, sandbox: Sandbox, timeout_s: float, max_output_bytes: int
) -> Answer:
    assert tool.profile is not None
    job, profile, running = _job(call, tool, context, max_output_bytes), tool.profile, Running()
    hosts = context.settings.get("hosts", ()) if tool.effect is EffectClass.NET else None

    def work() -> Answer:
        return sandbox.call(
            job, profile, seconds=timeout_s, fetch=lambda url: fetch_answer(url, hosts), running=running
        )

    try:
        return await _in_thread(tool, work)
    except asyncio.CancelledError:
        # Whoever made the call is gone; what it may still do must not happen later.
        running.stop()
        raise


def _job(call: ToolCall, tool: Tool, context: ToolContext, max_output_bytes: int) -> Job:
    assert tool.origin is not None
    return Job(
        tool=tool.spec.name,
        digest=tool.digest,
        module=tool.origin.module,
        file=tool.origin.file,
        code=None if tool.origin.code is None else tool.origin.code.decode("latin-1"),
        arguments=call.arguments,
        settings=json.loads(json.dumps(dict(context.settings), default=str)),
        workspace=str(context.workspace.resolve()),
        max_output_bytes=max_output_bytes,
    )


async def _in_thread(tool: Tool, work: Callable[[], Answer]) -> Answer:
    """Run `work` in a thread of its own and return its answer.

    Each call has a daemon thread of its own rather than a place in a pool: one that never returns would hold its place
    for good, and a pool's threads are waited for when the process ends.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def run() -> None:
        try:
            found: Answer | BaseException = work()
        except BaseException as error:
            found = error
        _deliver(loop, answer, found)

    threading.Thread(target=run, name=f"koboshi-tool-{tool.spec.name}", daemon=True).start()
    return await answer


def _deliver(loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Answer]", found: Answer | BaseException) -> None:
    def settle() -> None:
        if answer.done():
            return
        if isinstance(found, Answer):
            answer.set_result(found)
        else:
            answer.set_exception(found)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop is closed: nobody waits for this call any more.
        return


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _result(
    transport: Transport,
    verdict: ToolVerdict | None,
    text: str,
    started: float,
    max_output_bytes: int,
    *,
    is_cut: bool = False,
) -> ToolResult:
    data = text.encode("utf-8", errors="replace")
    return ToolResult(
        transport=transport,
        verdict=verdict,
        output=data[:max_output_bytes].decode("utf-8", errors="ignore"),
        seconds=perf_counter() - started,
        truncated=is_cut or len(data) > max_output_bytes,
    )
