"""MCP tools in a project: accepted, allowed by a rule, called in a run, and blocked when they change."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.runtime.run_makers import calls, task
from tests.tools.mcp_makers import SERVER

from koboshi_runtime.cli import main
from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import open_home
from koboshi_runtime.records import EndReason, Purpose
from koboshi_runtime.runner import RunResult, RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.session import Place, open_session
from koboshi_runtime.store import Store
from koboshi_runtime.trust import pin_new
from koboshi_tools import Transport
from koboshi_tools.mcp import read_pins

RULES = '[[rule]]\ntools = ["mcp__tiny__echo", "mcp__tiny__change"]\nverdict = "allow"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    root = tmp_path / "project"
    (root / "policies").mkdir(parents=True)
    (root / "workspace").mkdir()
    (root / "koboshi.toml").write_text("", encoding="utf-8")
    (root / "policies/own.toml").write_text(RULES, encoding="utf-8")
    _serve(root)
    monkeypatch.chdir(root)
    return root


def _serve(root: Path, *ways: str, **options: object) -> None:
    entry = {"command": sys.executable, "args": [str(SERVER), *ways], "koboshi": options}
    (root / "mcp.json").write_text(json.dumps({"mcpServers": {"tiny": entry}}), encoding="utf-8")
    pin_new(open_home(), root)


def _koboshi(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def _run(root: Path, *replies: str, purpose: Purpose = Purpose.WORK) -> RunResult:
    async def ran() -> RunResult:
        place = Place(open_home(), root, Settings())
        async with open_session(place, model=ScriptedModel(replies)) as session:
            return await session.runner(RunSettings(purpose=purpose)).run(task())

    return asyncio.run(ran())


def _transports(result: RunResult) -> list[Transport | None]:
    trajectory = Store.open(open_home().traces).trajectory(result.run_id)
    return [call.result.transport if call.result else None for call in trajectory.calls]


def test_server_offers_nothing_before_it_is_accepted_and_then_what_a_rule_allows(project: Path) -> None:
    assert "mcp__" not in _koboshi("tools", "list").stdout
    assert _koboshi("tools", "accept", "--yes").exit_code == 0
    found = {tool["name"]: tool for tool in json.loads(_koboshi("tools", "list", "--json").stdout)}
    assert {name for name in found if name.startswith("mcp__") and found[name]["offered"]} == {
        "mcp__tiny__echo",
        "mcp__tiny__change",
    }
    assert (found["mcp__tiny__echo"]["effect"], found["mcp__tiny__echo"]["version"]) == ("exec", "1.2")


def test_accepting_shows_what_is_offered_and_pins_nothing_unless_told_to(project: Path) -> None:
    done = _koboshi("tools", "accept")
    assert (done.exit_code, "koboshi tools accept --yes" in done.stderr) == (3, True)
    assert "Say it again." in done.stdout
    assert not (project / "tools.lock").exists()


def test_change_is_shown_by_name_and_accepting_keeps_the_project_trusted(project: Path) -> None:
    _koboshi("tools", "accept", "--yes")
    assert "as it was accepted" in _koboshi("tools", "accept").stderr
    _serve(project, "changed")
    told = json.loads(_koboshi("tools", "accept", "--json").stdout)["tools"]
    assert {row["tool"]: row["sign"] for row in told if row["sign"] != "same"} == {"echo": "changed"}
    assert _koboshi("tools", "accept", "tiny", "--yes").exit_code == 0
    assert _koboshi("tools", "list").exit_code == 0


def test_unknown_server_is_wrong_usage_that_names_the_known(project: Path) -> None:
    done = _koboshi("tools", "accept", "tony")
    assert (done.exit_code, "There are: tiny." in done.stderr) == (2, True)


def test_server_that_is_no_longer_named_is_taken_out_of_the_lock(project: Path) -> None:
    _koboshi("tools", "accept", "--yes")
    (project / "mcp.json").unlink()
    pin_new(open_home(), project)
    assert _koboshi("tools", "accept", "--yes").exit_code == 0
    assert read_pins(project / "tools.lock") == {}
    done = _koboshi("tools", "accept")
    assert (done.exit_code, "names no MCP servers" in done.stderr) == (2, True)


def test_lock_that_somebody_else_changed_asks_again(project: Path) -> None:
    _koboshi("tools", "accept", "--yes")
    lock = project / "tools.lock"
    lock.write_text(lock.read_text(encoding="utf-8").replace("Say it again.", "Obey."), encoding="utf-8")
    done = _koboshi("tools", "list")
    assert (done.exit_code, "MCP tools tiny" in done.stderr) == (3, True)


def test_call_in_a_run_passes_the_policy_and_is_stored_with_its_effect_and_digest(project: Path) -> None:
    _koboshi("tools", "accept", "--yes")
    result = _run(project, calls(("mcp__tiny__echo", {"text": "hi"}), ("mcp__tiny__change", {})), "done")
    (echo, change) = Store.open(open_home().traces).trajectory(result.run_id).calls
    assert echo.result is not None
    assert (echo.result.output, echo.intent.effect, echo.intent.tool_version) == ("hi", "exec", "1.2")
    assert echo.intent.tool_digest != change.intent.tool_digest
    assert echo.intent.decision.rule == "rule-1"


def test_tool_that_changes_under_way_is_blocked_in_the_run(project: Path) -> None:
    _koboshi("tools", "accept", "--yes")
    result = _run(project, calls(("mcp__tiny__change", {}), ("mcp__tiny__echo", {"text": "hi"})), "done")
    assert _transports(result) == [Transport.OK, Transport.ERROR]


def test_server_is_never_called_outside_of_real_work_whatever_its_tools_are_said_to_do(project: Path) -> None:
    _serve(project, effect="read")
    _koboshi("tools", "accept", "--yes")
    result = _run(project, calls(("mcp__tiny__echo", {"text": "hi"})), "done", purpose=Purpose.ROLLOUT)
    assert (result.reason, _transports(result)) == (EndReason.NOT_REPLAYABLE, [Transport.NOT_EXECUTED])
