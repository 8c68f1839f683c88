"""The server file of a project and its lock: what is read, what is refused, what is filled in."""

import json
from pathlib import Path
from typing import Any

import pytest

from koboshi_tools import EffectClass, UsageError
from koboshi_tools.arguments import InvalidArgumentsError
from koboshi_tools.mcp import HttpServer, Listed, StdioServer, Surroundings, load_servers, read_pins, write_pins
from koboshi_tools.mcp.definitions import Definition
from koboshi_tools.mcp.launching import headers_of, launch_of
from koboshi_tools.mcp.results import result_text
from koboshi_tools.mcp.toolset import SchemaArguments


def _file(folder: Path, content: Any) -> Path:
    path = folder / "mcp.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def _one(folder: Path, **entry: Any) -> StdioServer | HttpServer:
    (server,) = load_servers(_file(folder, {"mcpServers": {"one": entry}}))
    return server


@pytest.mark.parametrize("table", ["mcpServers", "servers"])
def test_file_of_other_clients_is_read_and_their_approvals_mean_nothing(tmp_path: Path, table: str) -> None:
    entries = {
        "files": {"command": "node", "args": ["x.js"], "autoApprove": ["*"], "alwaysAllow": ["write"], "type": "stdio"},
        "far": {"type": "http", "url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        "off": {"command": "never", "disabled": True},
    }
    files, far = load_servers(_file(tmp_path, {table: entries, "inputs": []}))
    assert files == StdioServer(name="files", command="node", args=("x.js",))
    assert isinstance(far, HttpServer)
    assert far.koboshi.effect is None


def test_no_file_names_no_servers(tmp_path: Path) -> None:
    assert load_servers(tmp_path / "mcp.json") == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{ // comment\n}", "is not JSON"),
        ({"mcpServers": []}, "names no servers"),
        ({"mcpServers": {"a__b": {"command": "x"}}}, "cannot be part of a tool's name"),
        ({"mcpServers": {"a b": {"command": "x"}}}, "cannot be part of a tool's name"),
        ({"mcpServers": {"a": {"command": "x", "url": "http://y"}}}, "not one of command and url"),
        ({"mcpServers": {"a": {"type": "sse", "url": "http://y"}}}, "of type 'sse'"),
        ({"mcpServers": {"a": {"url": "file:///etc/passwd"}}}, "url"),
        ({"mcpServers": {"a": {"command": "x", "envFile": ".env"}}}, "envFile is not read"),
        ({"mcpServers": {"a": {"command": "x", "args": "y"}}}, "args"),
        ({"mcpServers": {"a": {"command": "x", "koboshi": {"effekt": "read"}}}}, "koboshi.effekt: unknown key"),
    ],
)
def test_file_that_is_wrong_is_refused_and_named(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_servers(_file(tmp_path, content))
    assert str(tmp_path / "mcp.json") in str(caught.value)


def test_options_stand_under_a_key_of_their_own(tmp_path: Path) -> None:
    found = _one(tmp_path, command="x", koboshi={"effect": "read", "effects": {"write_*": "write"}})
    assert (found.koboshi.effect, found.koboshi.effects) == (EffectClass.READ, {"write_*": EffectClass.WRITE})


def _around(folder: Path, **environment: str) -> Surroundings:
    (folder / "workspace").mkdir(exist_ok=True)
    return Surroundings(folder, folder / "workspace", environment)


def test_variables_are_filled_in_and_nothing_else_of_the_environment_is_given(tmp_path: Path) -> None:
    around = _around(tmp_path, PATH="/bin", TOKEN="t", OTHER="o")
    server = StdioServer(
        name="s", command="node", args=("${workspaceFolder}",), env={"A": "${TOKEN}-${env:TOKEN}", "B": "${NONE:-b}"}
    )
    launch = launch_of(server, around, tmp_path / "home")
    assert launch.command == ("node", f"{tmp_path}/workspace")
    assert launch.environment == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "HOME": f"{tmp_path}/home",
        "A": "t-t",
        "B": "b",
    }
    assert launch.folder == tmp_path / "workspace"
    assert headers_of(HttpServer(name="h", url="http://x", headers={"X": "${TOKEN}"}), around) == {"X": "t"}


@pytest.mark.parametrize(
    ("env", "said"),
    [({"A": "${GONE}"}, "variable GONE, which is not set"), ({"A": "${input:key}"}, "cannot be filled")],
)
def test_variable_that_is_not_there_starts_nothing(tmp_path: Path, env: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        launch_of(StdioServer(name="s", command="x", env=env), _around(tmp_path), tmp_path)


def test_lock_keeps_what_was_accepted_and_what_others_wrote(tmp_path: Path) -> None:
    lock = tmp_path / "tools.lock"
    lock.write_text('{"other": {"a": 1}}', encoding="utf-8")
    offered = Listed(version="1", definitions=(Definition(name="a", inputSchema={"type": "object"}),))
    write_pins(lock, {"one": offered})
    assert read_pins(lock) == {"one": offered}
    assert json.loads(lock.read_text(encoding="utf-8"))["other"] == {"a": 1}
    assert read_pins(tmp_path / "none") == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"mcp": []}', '{"mcp": {"a": {"version": 1}}}'])
def test_lock_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tools.lock").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="tools.lock cannot be read"):
        read_pins(tmp_path / "tools.lock")


def test_answer_becomes_text_that_says_what_it_does_not_show() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "a"},
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "resource_link", "name": "r", "uri": "file:///r"},
        {"type": "resource", "resource": {"uri": "x:", "text": "inner"}},
        {"type": "resource", "resource": {"uri": "y:", "blob": "AA"}},
    ]
    picture, link, blob = "[image image/png, 4 characters", "[resource r file:///r]", "[resource y:, 2 characters"
    shown = f"a\n{picture} of base64]\n{link}\ninner\n{blob} of base64]"
    assert result_text(content, {"not": "shown"}) == shown
    assert result_text([], {"b": 1}) == '{"b":1}'


def test_arguments_are_checked_by_schema_and_no_reference_is_fetched() -> None:
    binder = SchemaArguments({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert binder.bind({"n": 1}) == {"n": 1}
    with pytest.raises(InvalidArgumentsError, match="n: 'x' is not of type 'integer'"):
        binder.bind({"n": "x"})
    with pytest.raises(InvalidArgumentsError, match="cannot be checked"):
        SchemaArguments({"properties": {"n": {"$ref": "http://127.0.0.1:9/schema"}}}).bind({"n": 1})
