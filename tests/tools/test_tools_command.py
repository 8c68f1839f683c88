"""`koboshi tools` in a project with a tool of its own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from koboshi_runtime.cli.tools import tools
from koboshi_runtime.home import open_home
from koboshi_runtime.opening import open_contributions
from koboshi_runtime.project import load_project
from koboshi_runtime.trust import pin, pin_new, trust_state
from koboshi_tools import RefusedError, UsageError, builtin_tools
from koboshi_tools.sandbox import probe

OWN = (
    "from koboshi_tools import tool\n\n"
    '@tool(effect="write", version="3")\ndef note(text: str) -> None:\n    """Note."""\n'
)
RULES = '[[rule]]\ntools = ["calculator", "note"]\nverdict = "allow"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "project"
    for name, text in (("koboshi.toml", ""), ("policies/own.toml", RULES), ("tools/own.py", OWN)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    pin_new(open_home(), root)
    return root


def run(*arguments: str) -> str:
    return CliRunner().invoke(tools, list(arguments), catch_exceptions=False).stdout


def test_list_holds_every_tool_and_says_what_is_offered(project: Path) -> None:
    found = {tool["name"]: tool for tool in json.loads(run("list", "--json"))}
    assert set(found) == {*builtin_tools(), "note"}
    assert {name for name, tool in found.items() if tool["offered"]} == {"calculator", "note"}
    assert (found["note"]["effect"], found["note"]["version"], found["note"]["idempotent"]) == ("write", "3", False)
    assert "note" in run()


def test_show_prints_what_the_model_sees(project: Path) -> None:
    found = json.loads(run("show", "calculator", "--json"))
    assert found["spec"] == builtin_tools()["calculator"].spec.model_dump(mode="json")
    assert "Note." in run("show", "note")


def test_a_tool_that_is_not_there_is_wrong_usage_with_the_nearest_name(project: Path) -> None:
    with pytest.raises(UsageError, match="no tool 'calculater'") as refused:
        run("show", "calculater")
    assert refused.value.hint == "Did you mean 'calculator'?"


def test_a_tool_that_changed_is_shown_refused_and_accepted(project: Path) -> None:
    home, loaded = open_home(), load_project(project)
    pin(home, trust_state(home, loaded))
    assert json.loads(run("show", "note", "--json"))["lock"] == "new"
    open_contributions(home, loaded).close()
    assert json.loads(run("show", "note", "--json"))["lock"] == "accepted"
    (project / "tools/own.py").write_text(OWN.replace('"3"', '"4"'), encoding="utf-8")
    pin(home, trust_state(home, loaded))
    assert json.loads(run("show", "note", "--json"))["lock"] == "CHANGED"
    with pytest.raises(RefusedError, match="the tool 'note' is not the one that was accepted: version 3 became 4"):
        open_contributions(home, loaded)
    with pytest.raises(RefusedError, match="nothing was accepted"):
        run("accept", "note")
    (row,) = json.loads(run("accept", "note", "--yes", "--json"))["tools"]
    assert (row["sign"], row["tool"], row["description"][:18]) == ("changed", "note", "version 3 became 4")
    open_contributions(home, loaded).close()
    (project / "tools/own.py").unlink()
    pin(home, trust_state(home, loaded))
    assert json.loads(run("accept", "--yes", "--json"))["tools"][0]["sign"] == "gone"
    with pytest.raises(UsageError, match="no tool or MCP server 'note' that could be accepted"):
        run("accept", "note")


def test_list_says_where_each_tool_runs(project: Path) -> None:
    found = {tool["name"]: tool["runs in"] for tool in json.loads(run("list", "--json"))}
    assert found["calculator"] == "process"
    assert found["shell"] == found["note"] == f"sandbox ({probe().mode})"
