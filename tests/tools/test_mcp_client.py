"""Tools of an MCP server that runs as a real process, and that does not always mean well."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.tools.mcp_makers import hub_of, make, tiny, tools_of

from koboshi_tools import EffectClass, ToolVerdict, Transport
from koboshi_tools.mcp import Listed, mcp_tools
from koboshi_tools.mcp.connection import McpServerError


def test_call_reaches_the_server_and_its_answer_comes_back(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny()) as tools:
        result = make(tools["echo"], tmp_path, text="hällo")
    assert (result.transport, result.verdict, result.output) == (Transport.OK, ToolVerdict.OK, "hällo")
    assert tools["echo"].version == "1.2"


def test_failure_of_a_tool_is_its_verdict_and_not_its_transport(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny()) as tools:
        result = make(tools["fail"], tmp_path)
    assert (result.transport, result.verdict, result.output) == (Transport.OK, ToolVerdict.ERROR, "it went wrong")


def test_error_of_the_protocol_is_one_of_transport(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny()) as tools:
        result = make(tools["refuse"], tmp_path)
    assert (result.transport, result.verdict) == (Transport.ERROR, None)
    assert "refused the call" in result.output


def test_arguments_that_do_not_fit_never_reach_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with tools_of(tmp_path, tiny()) as tools:
        assert make(tools["count"], tmp_path, text=7).transport is Transport.INVALID
        assert make(tools["count"], tmp_path, text=str(log)).transport is Transport.OK
    assert len(log.read_text(encoding="utf-8").splitlines()) == 1


def test_server_sees_its_declared_environment_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret")
    with tools_of(tmp_path, tiny(env={"TOKEN": "${A_SECRET}", "AT": "${workspaceFolder}/x"})) as tools:
        seen = json.loads(make(tools["environment"], tmp_path).output)
    assert {name: seen.pop(name) for name in ("TOKEN", "AT", "cwd", "PATH", "LANG")} == {
        "TOKEN": "s3cret",
        "AT": f"{tmp_path}/x",
        "cwd": str(tmp_path),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
    }
    assert seen.pop("HOME") not in (os.environ["HOME"], str(Path.home()))
    # What the interpreter itself adds to the environment that it is given.
    assert set(seen) <= {"LC_CTYPE"}


def test_server_that_dies_in_a_call_is_a_clear_error_and_is_there_for_the_next(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny()) as tools:
        died = make(tools["leave"], tmp_path)
        after = make(tools["echo"], tmp_path, text="again")
    assert died.transport is Transport.ERROR
    assert "ended with code 3" in died.output
    assert "out of ink" in died.output
    assert "\x1b" not in died.output
    assert after.output == "again"


def test_server_that_hangs_is_given_up_and_is_there_for_the_next_call(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny(call_seconds=0.2)) as tools:
        hung = make(tools["hang"], tmp_path)
        after = make(tools["echo"], tmp_path, text="again")
    assert (hung.transport, "gave no answer" in hung.output) == (Transport.ERROR, True)
    assert after.output == "again"


def test_call_over_the_runs_own_limit_is_a_timeout(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny(call_seconds=1)) as tools:
        assert make(tools["hang"], tmp_path, timeout_s=0.1).transport is Transport.TIMEOUT


def test_definition_that_changes_under_way_is_never_called(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny()) as tools:
        assert make(tools["change"], tmp_path).transport is Transport.OK
        changed = make(tools["echo"], tmp_path, text="x")
        same = make(tools["fail"], tmp_path)
    assert (changed.transport, "described otherwise" in changed.output) == (Transport.ERROR, True)
    assert same.output == "it went wrong"


def test_what_was_not_accepted_is_not_offered_and_what_is_gone_cannot_be_called(tmp_path: Path) -> None:
    server = tiny()
    with hub_of(tmp_path, server) as hub:
        now = hub.listed("tiny")
        assert mcp_tools([server], {}, hub) == {}
        echo = now.definitions[0].model_copy(update={"name": "shout"})
        (shout,) = mcp_tools([server], {"tiny": Listed(version="1", definitions=(echo,))}, hub).values()
        result = make(shout, tmp_path, text="x")
    assert (result.transport, "no longer offered" in result.output) == (Transport.ERROR, True)


def test_greeting_on_the_output_is_skipped(tmp_path: Path) -> None:
    with tools_of(tmp_path, tiny("greets")) as tools:
        assert make(tools["echo"], tmp_path, text="x").output == "x"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("floods", "writes what is no message"),
        ("endless", "writes what is no message"),
        ("silent", "did not begin to speak"),
        ("dies", "no licence"),
    ],
)
def test_server_that_does_not_speak_the_protocol_is_refused(tmp_path: Path, way: str, said: str) -> None:
    with hub_of(tmp_path, tiny(way, start_seconds=1 if way == "silent" else 20)) as hub:
        with pytest.raises(McpServerError, match=said):
            hub.listed("tiny")


def test_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    server = tiny().model_copy(update={"command": "no-such-program"})
    with hub_of(tmp_path, server) as hub, pytest.raises(McpServerError, match="cannot be started: No such file"):
        hub.listed("tiny")


def test_server_that_ignores_the_end_of_its_input_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with tools_of(tmp_path, tiny("stays")) as tools:
        make(tools["count"], tmp_path, text=str(log))
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text(encoding="utf-8")), 0)


def test_closing_ends_a_server_that_has_not_yet_spoken_and_tells_who_waits(tmp_path: Path) -> None:
    os.mkfifo(mark := tmp_path / "mark")
    with (
        hub_of(tmp_path, tiny("silent", env={"MARK": str(mark)}, start_seconds=600)) as hub,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(hub.listed, "tiny")
        pid = int(mark.read_text(encoding="utf-8"))
        hub.close()
        with pytest.raises(McpServerError, match="ended before it began to speak"):
            waiting.result()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_huge_definitions_are_cut_or_left_out(tmp_path: Path) -> None:
    with hub_of(tmp_path, server := tiny("huge")) as hub:
        now = hub.listed("tiny")
        tools = mcp_tools([server], {"tiny": now}, hub)
    told = tools["mcp__tiny__long"].spec.description
    assert len(told) == 1000
    assert told.startswith("[31m[bold]long xxx")
    assert [reason.partition(":")[0] for reason in now.left_out] == ["huge", "far", "wide", "deep", "wrong"]
    assert [now.left_out[at][-15:] for at in (0, 2)] == ["65536 are taken", "16384 are taken"]


def test_odd_names_become_names_that_are_safe_and_different(tmp_path: Path) -> None:
    with hub_of(tmp_path, server := tiny("odd")) as hub:
        now = hub.listed("tiny")
        tools = mcp_tools([server], {"tiny": now}, hub)
        odd = [name for name in tools if "Odd." in tools[name].spec.description]
        by_name = {name: make(tools[name], tmp_path).output for name in odd}
    assert len(odd) == 7
    assert all(len(name) <= 64 and name.replace("__", "").replace("_", "").replace(".", "").isalnum() for name in odd)
    assert all(name.isascii() for name in odd)
    assert sorted(by_name.values()) == sorted({"a b", "a_b", "../../etc", "naïve\x1b[2J", "x" * 200, "x" * 201, "b__c"})
    assert now.left_out == ("echo: its name is taken",)


def test_effect_is_the_operators_word_and_never_the_servers(tmp_path: Path) -> None:
    def effects(**options: Any) -> dict[str, EffectClass]:
        with tools_of(tmp_path, tiny("hints", **options)) as tools:
            return {name: tools[name].effect for name in ("echo", "reader", "writer")}

    widest, read = EffectClass.EXEC, EffectClass.READ
    assert effects() == {"echo": widest, "reader": widest, "writer": widest}
    assert effects(effect="read") == {"echo": read, "reader": read, "writer": widest}
    assert effects(effects={"w*": "read"}) == {"echo": widest, "reader": widest, "writer": read}


def test_digest_names_definition_effect_and_server(tmp_path: Path) -> None:
    def digest(server_ways: tuple[str, ...], **options: Any) -> str:
        with tools_of(tmp_path, tiny(*server_ways, **options)) as tools:
            return tools["echo"].digest

    assert digest(()) == digest((), start_seconds=19)
    assert len({digest(()), digest(("changed",)), digest((), effect="read")}) == 3
