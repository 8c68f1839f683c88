"""A project's tools as an MCP server on standard input and output; every call is a run under the project's rules.

What a client is told of a tool is what a model is told. A call that is denied, invalid or fails is a result with
`isError`, because the client's model is to read it; only a tool that is not offered is an error of the protocol. The
client's name is its own word, and stands in the record as such.
"""

from importlib.metadata import version
from typing import Any

from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from koboshi_tools import EffectClass, ToolCall, ToolResult, ToolVerdict, Transport
from koboshi_tools import Tool as OurTool

from .outside import OutsideCalls
from .text import plain

_CALLER_CHARACTERS = 60


async def serve(calls: OutsideCalls) -> None:
    """Serve until the input ends, then finish what was begun."""

    async def list_tools(_: ServerRequestContext, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_described(tool) for tool in calls.offered.values()])

    async def call_tool(context: ServerRequestContext, params: CallToolRequestParams) -> CallToolResult:
        if params.name not in calls.offered:
            raise MCPError(INVALID_PARAMS, f"no tool {plain(params.name, width=_CALLER_CHARACTERS)!r} is offered here")
        call = ToolCall(name=params.name, arguments=params.arguments or {})
        return _answer(await calls.call(call, _caller(context)))

    server: Server[Any] = Server(
        "koboshi", version=version("koboshi"), on_list_tools=list_tools, on_call_tool=call_tool
    )
    try:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        await calls.drain()


def _described(tool: OurTool) -> Tool:
    reads = tool.effect is EffectClass.READ
    return Tool(
        name=tool.spec.name,
        description=tool.spec.description,
        input_schema={"type": "object", **tool.spec.parameters},
        annotations=ToolAnnotations(
            read_only_hint=reads, idempotent_hint=tool.idempotent, open_world_hint=tool.effect is EffectClass.NET
        ),
    )


def _answer(result: ToolResult) -> CallToolResult:
    failed = result.transport is not Transport.OK or result.verdict is ToolVerdict.ERROR
    return CallToolResult(content=[TextContent(type="text", text=result.output)], is_error=failed)


def _caller(context: ServerRequestContext) -> str:
    params = context.session.client_params
    if params is None:
        return "an MCP client without a name"
    told = f"{params.client_info.name} {params.client_info.version}"
    return f"MCP client {plain(told, width=_CALLER_CHARACTERS)}"
