"""A confined server reaches what its entry names, and neither the home nor the project's own files."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.tools.mcp_makers import SERVER, make

from koboshi_tools import Tool, UsageError
from koboshi_tools.mcp import Confinement, McpHub, ServerOptions, StdioServer, Surroundings, mcp_tools
from koboshi_tools.mcp.confining import confined
from koboshi_tools.mcp.launching import launch_of

bubblewrap = pytest.mark.skipif(not Path("/usr/bin/bwrap").exists(), reason="bwrap is not here: NOT tried confined")


def _server(**confine: Any) -> StdioServer:
    wanted = Confinement(**{"read": (sys.base_prefix, str(SERVER.parent)), **confine})
    options = ServerOptions(confine=wanted, start_seconds=20, call_seconds=20)
    return StdioServer(name="tiny", command=os.path.realpath(sys.executable), args=(str(SERVER),), koboshi=options)


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    for name in ("home/traces.db", "project/koboshi.toml", "project/workspace/a.txt", "elsewhere/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    return Surroundings(tmp_path / "project", tmp_path / "project/workspace", os.environ, tmp_path / "home")


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _tools(hub: McpHub, server: StdioServer) -> dict[str, Tool]:
    found = mcp_tools([server], {"tiny": hub.listed("tiny")}, hub)
    return {name.removeprefix("mcp__tiny__"): tool for name, tool in found.items()}


@bubblewrap
def test_confined_server_reaches_what_its_entry_names_and_no_more(around: Surroundings, listening: str) -> None:
    server = _server(write=("${workspaceFolder}",))
    workspace = around.workspace
    with closing(McpHub([server], around)) as hub:
        tools = _tools(hub, server)

        def peek(place: object) -> str:
            return make(tools["peek"], workspace, text=str(place)).output

        assert peek(workspace / "a.txt") == "project/workspace/a.txt"
        for kept in ("home/traces.db", "project/koboshi.toml", "elsewhere/b.txt"):
            assert peek(around.root.parent / kept) == "FileNotFoundError"
        assert peek(f"/proc/{os.getpid()}") == "FileNotFoundError"
        assert peek(listening) == "ConnectionRefusedError"
        make(tools["count"], workspace, text=str(workspace / "log"))
        make(tools["count"], workspace, text="/usr/log")
    assert (workspace / "log").exists()
    assert not Path("/usr/log").exists()


@bubblewrap
def test_network_is_there_if_the_entry_asks_for_it(around: Surroundings, listening: str) -> None:
    server = _server(network=True)
    with closing(McpHub([server], around)) as hub:
        assert make(_tools(hub, server)["peek"], around.workspace, text=listening).output == "connected"


@pytest.mark.parametrize("place", [".", "koboshi.toml", "../home", "..", "/"])
def test_entry_cannot_name_the_home_or_the_projects_own_files(around: Surroundings, place: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="may not reach"):
        launch_of(_server(write=(place,)), around, tmp_path)


def test_machine_without_bwrap_refuses_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("koboshi_tools.mcp.confining._PROGRAMS", (tmp_path / "bwrap",))
    with pytest.raises(UsageError, match="bwrap is not installed"):
        confined(["x"], read=[], write=[], network=False, folder=tmp_path)
