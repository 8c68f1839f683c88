"""The reference MCP servers of the npm registry, which nobody here wrote: every tool that needs no network.

They are installed once, by name and version, outside of the tree; nothing is fetched while they run.
"""

import json
import os
import shutil
import socket
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.tools.mcp_makers import make

from koboshi_tools import EffectClass, Tool, ToolVerdict, Transport
from koboshi_tools.mcp import (
    Confinement,
    HttpServer,
    McpHub,
    McpServer,
    ServerOptions,
    StdioServer,
    Surroundings,
    mcp_tools,
)

pytestmark = pytest.mark.slow

PACKAGES = ("@modelcontextprotocol/server-filesystem@2026.8.31", "@modelcontextprotocol/server-everything@2026.8.31")
OPTIONS = ServerOptions(start_seconds=120, call_seconds=60)


class Try(NamedTuple):
    """A call of a tool, and what stands in its answer; `verdict` is the tool's own."""

    tool: str
    arguments: dict[str, Any]
    said: str
    verdict: ToolVerdict = ToolVerdict.OK


@pytest.fixture(scope="module")
def installed() -> Path:
    """The folder of the installed packages."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        said = "npm is not here: the reference MCP servers were NOT tried"
        warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    folder = Path(os.environ.get("KOBOSHI_TEST_CACHE", "~/.cache/koboshi-tests")).expanduser() / "mcp-servers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text("{}", encoding="utf-8")
    command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / "node_modules" / "@modelcontextprotocol"


def _program(installed: Path, name: str, *args: str, confine: Confinement | None = None) -> StdioServer:
    script = str(installed / f"server-{name}" / "dist" / "index.js")
    options = OPTIONS.model_copy(update={"confine": confine})
    return StdioServer(name=name, command="node", args=(script, *args), koboshi=options)


def _tools(hub: McpHub, server: McpServer) -> dict[str, Tool]:
    found = mcp_tools([server], {server.name: hub.listed(server.name)}, hub)
    return {name.removeprefix(f"mcp__{server.name}__"): tool for name, tool in found.items()}


def _check(tools: dict[str, Tool], folder: Path, tries: list[Try]) -> None:
    for wanted in tries:
        result = make(tools[wanted.tool], folder, **wanted.arguments)
        assert (result.transport, result.verdict) == (Transport.OK, wanted.verdict), (wanted, result.output)
        assert wanted.said in result.output, (wanted, result.output)


def _hub(folder: Path, server: McpServer) -> McpHub:
    return McpHub([server], Surroundings(folder, folder, os.environ))


def _in(folder: Path) -> list[Try]:
    """Return tries of every tool of the filesystem server, in an order in which each finds what it needs."""
    note, moved, deep = str(folder / "note.txt"), str(folder / "moved.txt"), str(folder / "deep/er")
    edit = [{"oldText": "two", "newText": "TWO"}]
    return [
        Try("list_allowed_directories", {}, str(folder)),
        Try("write_file", {"path": note, "content": "one\ntwo\nthree\n"}, "note.txt"),
        Try("read_text_file", {"path": note, "head": 1}, "one"),
        Try("read_file", {"path": note}, "three"),
        Try("read_multiple_files", {"paths": [note]}, "two"),
        Try("read_media_file", {"path": str(folder / "dot.png")}, "characters of base64"),
        Try("edit_file", {"path": note, "edits": edit}, "+TWO"),
        Try("create_directory", {"path": deep}, "deep/er"),
        Try("list_directory", {"path": str(folder)}, "[DIR] deep"),
        Try("list_directory_with_sizes", {"path": str(folder), "sortBy": "size"}, "note.txt"),
        Try("directory_tree", {"path": str(folder)}, '"name": "er"'),
        Try("search_files", {"path": str(folder), "pattern": "*.txt"}, note),
        Try("get_file_info", {"path": note}, "size: 14"),
        Try("move_file", {"source": note, "destination": moved}, "moved"),
        Try("read_text_file", {"path": "/etc/passwd"}, "Access denied", ToolVerdict.ERROR),
        Try("read_text_file", {"path": note}, "ENOENT", ToolVerdict.ERROR),
    ]


@pytest.mark.parametrize("is_confined", [False, True])
def test_every_tool_of_the_filesystem_server_works(installed: Path, tmp_path: Path, is_confined: bool) -> None:
    if is_confined and not Path("/usr/bin/bwrap").exists():
        pytest.skip("bwrap is not here: the filesystem server was NOT tried confined")
    (tmp_path / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    modules = str(installed.parent)
    confine = Confinement(read=(modules,), write=("${workspaceFolder}",)) if is_confined else None
    server = _program(installed, "filesystem", "${workspaceFolder}", confine=confine)
    with closing(_hub(tmp_path, server)) as hub:
        tools = _tools(hub, server)
        tries = _in(tmp_path)
        assert {wanted.tool for wanted in tries} == set(tools)
        assert {tool.effect for tool in tools.values()} == {EffectClass.EXEC}
        _check(tools, tmp_path, tries)
    assert (tmp_path / "moved.txt").read_text(encoding="utf-8") == "one\nTWO\nthree\n"


EVERYTHING = [
    Try("echo", {"message": "hällo"}, "Echo: hällo"),
    Try("get-sum", {"a": 2, "b": 3}, "5"),
    Try("get-annotated-message", {"messageType": "error", "includeImage": True}, "[image image/png"),
    Try("get-env", {}, '"PATH"'),
    Try("get-resource-links", {"count": 2}, "[resource "),
    Try("get-resource-reference", {"resourceType": "Blob", "resourceId": 2}, "characters of base64"),
    Try("get-structured-content", {"location": "Chicago"}, "temperature"),
    Try("get-tiny-image", {}, "[image image/png"),
    Try("gzip-file-as-resource", {"name": "x.gz", "data": "data:text/plain,abc", "outputType": "resource"}, "base64"),
    Try("toggle-simulated-logging", {}, "logging"),
    Try("toggle-subscriber-updates", {}, "updates"),
    Try("trigger-long-running-operation", {"duration": 1, "steps": 2}, "completed"),
    Try("echo", {"message": "still here"}, "still here"),
]
LEFT_OUT = ("simulate-research-query: it answers only to tasks, an experiment of the protocol",)


def test_every_tool_of_the_everything_server_works(installed: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret")
    server = _program(installed, "everything", "stdio")
    with closing(_hub(tmp_path, server)) as hub:
        tools = _tools(hub, server)
        assert hub.listed("everything").left_out == LEFT_OUT
        assert {wanted.tool for wanted in EVERYTHING} == set(tools)
        _check(tools, tmp_path, EVERYTHING)
        seen = json.loads(make(tools["get-env"], tmp_path).output)
        assert set(seen) == {"PATH", "LANG", "HOME"}


@pytest.fixture
def over_http(installed: Path, tmp_path: Path) -> Iterator[HttpServer]:
    """The everything server behind a URL of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(installed / "server-everything" / "dist" / "index.js")
    environment = {**os.environ, "PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        command = ["node", script, "streamableHttp"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while b"listening" not in (tmp_path / "log").read_bytes().lower():
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
        yield HttpServer(name="everything", url=f"http://127.0.0.1:{port}/mcp", koboshi=OPTIONS)
        process.terminate()
        process.wait()


def test_the_everything_server_works_over_http(over_http: HttpServer, tmp_path: Path) -> None:
    with closing(_hub(tmp_path, over_http)) as hub:
        tools = _tools(hub, over_http)
        assert {tool.effect for tool in tools.values()} == {EffectClass.NET}
        _check(tools, tmp_path, EVERYTHING)
