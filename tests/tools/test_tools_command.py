"""`koboshi tools` in a project with a tool of its own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from koboshi_runtime.cli.tools import tools
from koboshi_runtime.home import open_home
from koboshi_runtime.trust import pin_new
from koboshi_tools import UsageError, builtin_tools

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
