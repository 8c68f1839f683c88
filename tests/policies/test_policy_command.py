"""`koboshi policy` in a project."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from koboshi_runtime.cli.policy import policy
from koboshi_tools import UsageError

RULES = '[[rule]]\nname = "sums"\ntools = ["calculator"]\nverdict = "allow"\narguments = { expression = "^1" }\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "project"
    (root / "policies").mkdir(parents=True)
    (root / "koboshi.toml").write_text('[agent]\nname = "p"\n', encoding="utf-8")
    (root / "policies" / "own.toml").write_text(RULES, encoding="utf-8")
    monkeypatch.chdir(root)
    return root


def explain(*arguments: str, stdin: str | None = None) -> dict[str, object]:
    result = CliRunner().invoke(policy, ["explain", *arguments, "--json"], input=stdin, catch_exceptions=False)
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_explain_names_the_rule_that_decides(project: Path) -> None:
    found = explain("calculator", '{"expression": "1 + 1"}')
    assert (found["verdict"], found["rule"], found["line"], found["layer"]) == ("allow", "sums", 1, "project")
    assert found["file"] == str(project.resolve() / "policies" / "own.toml")
    assert explain("calculator", "-", stdin='{"expression": "2"}')["verdict"] == "deny"


def test_a_file_of_the_command_line_is_one_layer_more(project: Path) -> None:
    stricter = project.parent / "strict.toml"
    stricter.write_text('[[rule]]\ntools = ["*"]\nverdict = "ask"\n', encoding="utf-8")
    found = explain("calculator", '{"expression": "1"}', "--policy", str(stricter))
    assert (found["verdict"], found["layer"]) == ("ask", "flag")


def test_explain_prints_for_a_person_too(project: Path) -> None:
    result = CliRunner().invoke(policy, ["explain", "calculator", '{"expression": "1"}'], catch_exceptions=False)
    assert "sums" in result.stdout
    assert "own.toml:1" in result.stdout


@pytest.mark.parametrize("arguments", ["{", "[]", '{"a": 1, "a": 2}', '{"a": NaN}'])
def test_arguments_that_are_no_object_are_wrong_usage(project: Path, arguments: str) -> None:
    with pytest.raises(UsageError, match="the arguments are"):
        explain("calculator", arguments)


@pytest.mark.parametrize("command", [["check"], []])
def test_check_lists_the_rules_in_force(project: Path, command: list[str]) -> None:
    result = CliRunner().invoke(policy, command, catch_exceptions=False)
    assert (result.exit_code, "sums" in result.stdout) == (0, True)
    assert "1 rule, sha256:" in result.stderr


def test_check_refuses_a_bad_file_with_its_line(project: Path) -> None:
    (project / "policies" / "bad.toml").write_text('\n[[rule]]\ntools = ["a"]\nverdict = "maybe"\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"bad\.toml:2: verdict"):
        CliRunner().invoke(policy, ["check"], catch_exceptions=False)
