"""A server behind a URL: real sockets on this machine, and a server that sends its clients elsewhere."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.tools.mcp_makers import make
from tests.tools.tiny_mcp_server import reply_to

from koboshi_tools import EffectClass, ToolVerdict, Transport
from koboshi_tools.mcp import HttpServer, McpHub, ServerOptions, Surroundings, mcp_tools
from koboshi_tools.mcp.connection import McpServerError


class _Tiny(BaseHTTPRequestHandler):
    """Answers as the tiny server does, by streamable HTTP without streams."""

    def do_POST(self) -> None:
        server: Any = self.server
        server.seen.append((self.path, self.headers.get("Authorization")))
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/away":
            return self._say(307, b"", Location=f"{server.elsewhere}/mcp")
        if self.headers.get("Authorization") != "Bearer t":
            return self._say(401, b"")
        if "id" not in message:
            return self._say(202, b"")
        return self._say(200, json.dumps(reply_to(message, set())).encode())

    def do_GET(self) -> None:
        self._say(405, b"")

    do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _say(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Listening(ThreadingHTTPServer):
    """A tiny server that keeps what it was asked; `elsewhere` is where it would send its clients."""

    daemon_threads = True

    def __init__(self, elsewhere: str = "", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Tiny)
        self.seen: list[tuple[str, str | None]] = []
        self.elsewhere = elsewhere
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def listening() -> Iterator[_Listening]:
    server = _Listening()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[McpHub]]:
    monkeypatch.setenv("TINY_TOKEN", "t")
    opened: list[McpHub] = []
    yield opened
    for hub in opened:
        hub.close()


def _hub(hubs: list[McpHub], folder: Path, url: str, token: str = "${TINY_TOKEN}") -> tuple[McpHub, HttpServer]:
    options = ServerOptions(start_seconds=10, call_seconds=10)
    server = HttpServer(name="far", url=url, headers={"Authorization": f"Bearer {token}"}, koboshi=options)
    hubs.append(McpHub([server], Surroundings(folder, folder, os.environ)))
    return hubs[-1], server


def test_call_over_http_carries_the_declared_headers(tmp_path: Path, hubs: list[McpHub], listening: _Listening) -> None:
    hub, server = _hub(hubs, tmp_path, f"{listening.url}/mcp")
    tools = mcp_tools([server], {"far": hub.listed("far")}, hub)
    echo = make(tools["mcp__far__echo"], tmp_path, text="hi")
    failed = make(tools["mcp__far__fail"], tmp_path)
    assert (echo.output, tools["mcp__far__echo"].effect) == ("hi", EffectClass.NET)
    assert (failed.transport, failed.verdict) == (Transport.OK, ToolVerdict.ERROR)
    assert set(listening.seen) == {("/mcp", "Bearer t")}


def test_server_that_refuses_the_token_is_an_error_that_does_not_show_it(
    tmp_path: Path, hubs: list[McpHub], listening: _Listening
) -> None:
    hub, _ = _hub(hubs, tmp_path, f"{listening.url}/mcp", token="wr0ng")
    with pytest.raises(McpServerError) as caught:
        hub.listed("far")
    assert "wr0ng" not in str(caught.value)


def test_redirect_to_another_place_is_not_followed(tmp_path: Path, hubs: list[McpHub], listening: _Listening) -> None:
    sender = _Listening(elsewhere=listening.url)
    hub, _ = _hub(hubs, tmp_path, f"{sender.url}/away")
    with pytest.raises(McpServerError):
        hub.listed("far")
    sender.shutdown()
    sender.server_close()
    assert sender.seen
    assert listening.seen == []


def test_proxy_of_the_environment_is_not_asked(
    tmp_path: Path, hubs: list[McpHub], listening: _Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    hub, _ = _hub(hubs, tmp_path, f"{listening.url}/mcp")
    assert hub.listed("far").version == "1.2"


def test_server_that_is_not_there_is_named(tmp_path: Path, hubs: list[McpHub], listening: _Listening) -> None:
    listening.shutdown()
    listening.server_close()
    hub, _ = _hub(hubs, tmp_path, f"{listening.url}/mcp")
    with pytest.raises(McpServerError, match="MCP server 'far' cannot be used"):
        hub.listed("far")


def test_server_that_went_away_is_reached_again_when_it_is_back(
    tmp_path: Path, hubs: list[McpHub], listening: _Listening
) -> None:
    hub, server = _hub(hubs, tmp_path, f"{listening.url}/mcp")
    echo = mcp_tools([server], {"far": hub.listed("far")}, hub)["mcp__far__echo"]
    port = listening.server_port
    listening.shutdown()
    listening.server_close()
    gone = make(echo, tmp_path, text="x")
    back = _Listening(port=port)
    again = make(echo, tmp_path, text="x")
    back.shutdown()
    back.server_close()
    assert (gone.transport, again.output) == (Transport.ERROR, "x")
