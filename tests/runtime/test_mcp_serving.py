"""`koboshi serve --mcp` as its clients see it: the official one, over a real process's input and output."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import CallToolResult, Implementation, TextContent, Tool
from tests.tools.mcp_makers import make

from koboshi_runtime.home import open_home
from koboshi_runtime.records import EndReason, Purpose, Trajectory
from koboshi_runtime.store import Store
from koboshi_runtime.trust import pin_new
from koboshi_tools import ToolVerdict, Transport
from koboshi_tools.mcp import McpHub, StdioServer, Surroundings, mcp_tools

PROGRAM = str(Path(sys.executable).parent / "koboshi")
RULES = """
[[rule]]
tools = ["calculator", "files_read"]
verdict = "allow"
[[rule]]
tools = ["files_list"]
verdict = "ask"
[[rule]]
tools = ["files_read"]
arguments = { path = "secret" }
verdict = "deny"
reason = "it is secret"
"""
FILES = {"koboshi.toml": '[agent]\nname = "served"\n', "policies/own.toml": RULES, "workspace/secret.txt": "two"}


def _project(folder: Path) -> Path:
    root = folder / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    pin_new(open_home(path=folder / "home"), root)
    return root


def _entry(root: Path) -> StdioServer:
    own = {"KOBOSHI_HOME": str(root.parent / "home"), "XDG_CONFIG_HOME": str(root.parent / "config")}
    return StdioServer(name="ours", command=PROGRAM, args=("serve", "--mcp", "-C", str(root)), env=own)


@dataclass(frozen=True)
class Served:
    """What a client got, in one session, and what was recorded of it."""

    server: str
    tools: dict[str, Tool]
    answers: list[CallToolResult]
    refused: str
    runs: list[Trajectory]
    unlabelled: int


async def _use(client: Client) -> tuple[str, dict[str, Tool], list[CallToolResult], str]:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    answers = [
        await client.call_tool("calculator", {"expression": "6 * 7"}),
        await client.call_tool("calculator", {"expression": "1 / 0"}),
        await client.call_tool("calculator", {"expresion": "1"}),
        await client.call_tool("files_read", {"path": "secret.txt"}),
        await client.call_tool("files_list", {}),
    ]
    try:
        await client.call_tool("sql", {"query": "select 1"})
    except MCPError as error:
        return client.server_info.name if client.server_info else "", tools, answers, str(error)
    raise AssertionError("a tool that is not offered was called")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = _project(tmp_path_factory.mktemp("served"))
    entry = _entry(root)

    async def used() -> tuple[str, dict[str, Tool], list[CallToolResult], str]:
        server = StdioServerParameters(command=entry.command, args=list(entry.args), env=entry.env)
        async with Client(server, client_info=Implementation(name="tester\x1b[31m", version="9")) as client:
            return await _use(client)

    found = asyncio.run(used())
    store = Store.open(open_home(path=root.parent / "home").traces)
    runs = [store.trajectory(row.run_id) for row in reversed(store.runs())]
    return Served(*found, runs, store.count_unlabelled())


def test_official_client_is_offered_what_the_rules_allow_as_a_model_would_be(served: Served) -> None:
    assert served.server == "koboshi"
    assert set(served.tools) == {"calculator", "files_read", "files_list"}
    calculator = served.tools["calculator"]
    assert calculator.input_schema["properties"]["expression"]["type"] == "string"
    assert calculator.annotations is not None
    assert calculator.annotations.read_only_hint is True


def test_answers_are_results_and_what_went_wrong_is_said_to_the_clients_model(served: Served) -> None:
    texts = [block.text for answer in served.answers for block in answer.content if isinstance(block, TextContent)]
    assert [answer.is_error for answer in served.answers] == [False, True, True, True, True]
    assert (texts[0], texts[3]) == ("42", "Denied: it is secret.")
    assert "'expresion'" in texts[2]
    assert "nobody is attending" in texts[4]


def test_every_call_is_recorded_as_work_of_a_named_client_with_decision_and_result(served: Served) -> None:
    results = [run.calls[0].result for run in served.runs]
    assert [result and (result.transport, result.verdict) for result in results] == [
        (Transport.OK, ToolVerdict.OK),
        (Transport.OK, ToolVerdict.ERROR),
        (Transport.INVALID, None),
        (Transport.DENIED, None),
        (Transport.DENIED, None),
    ]
    assert {(run.header.purpose, run.header.project, run.end and run.end.reason) for run in served.runs} == {
        (Purpose.WORK, "served", EndReason.OUTSIDE)
    }
    assert served.runs[0].header.prompt == r"MCP client tester\x1b[31m 9 calls calculator"
    assert served.runs[3].calls[0].intent.decision.line == 8


def test_recorded_calls_wait_for_no_label(served: Served) -> None:
    assert served.unlabelled == 0


def test_tool_that_is_not_offered_is_an_error_of_the_protocol_and_no_run(served: Served) -> None:
    assert served.refused == "no tool 'sql' is offered here"
    assert len(served.runs) == len(served.answers)


def test_project_that_nobody_agreed_to_is_not_served(tmp_path: Path) -> None:
    root = _project(tmp_path)
    (root / "policies/own.toml").write_text(RULES + "\n", encoding="utf-8")
    entry = _entry(root)
    done = subprocess.run(
        [entry.command, *entry.args], input=b"", capture_output=True, env=os.environ | entry.env, check=False
    )
    assert (done.returncode, b"koboshi trust" in done.stderr, done.stdout) == (3, True, b"")


@pytest.mark.slow
def test_our_client_and_our_server_understand_each_other(tmp_path: Path) -> None:
    entry = _entry(_project(tmp_path))
    hub = McpHub([entry], Surroundings(tmp_path, tmp_path, os.environ))
    try:
        tools = mcp_tools([entry], {"ours": hub.listed("ours")}, hub)
        assert make(tools["mcp__ours__calculator"], tmp_path, expression="2 + 2").output == "4"
    finally:
        hub.close()


WAITING = """
from koboshi_tools import ToolContext, tool


@tool
def wait(context: ToolContext) -> str:
    \"\"\"Wait until somebody writes.\"\"\"
    return (context.workspace / "pipe").read_text(encoding="utf-8")
"""
ALLOW_WAITING = '[[rule]]\ntools = ["wait"]\nverdict = "allow"\n'


@pytest.mark.slow
def test_call_whose_client_left_is_finished_and_recorded(tmp_path: Path) -> None:
    root = _project(tmp_path)
    (root / "tools").mkdir()
    (root / "tools/wait.py").write_text(WAITING, encoding="utf-8")
    (root / "policies/own.toml").write_text(RULES + ALLOW_WAITING, encoding="utf-8")
    os.mkfifo(root / "workspace/pipe")
    home = open_home(path=tmp_path / "home")
    pin_new(home, root)
    entry = _entry(root)
    command, environment = [entry.command, *entry.args], os.environ | entry.env
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment) as process:
        assert process.stdin is not None
        info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "rude", "version": "1"}}
        for message in (
            {"id": 1, "method": "initialize", "params": info},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "wait", "arguments": {}}},
        ):
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        process.stdin.flush()
        # Opening it waits for the tool to be there.
        with (root / "workspace/pipe").open("w", encoding="utf-8") as pipe:
            process.stdin.close()
            pipe.write("at last")
        assert process.wait() == 0
    (row,) = Store.open(home.traces).runs()
    (call,) = Store.open(home.traces).trajectory(row.run_id).calls
    assert call.result is not None
    assert (row.end_reason, call.result.output) == (EndReason.OUTSIDE, "at last")
