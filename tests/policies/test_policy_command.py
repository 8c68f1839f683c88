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


def test_explain_shows_every_rule_that_applies_and_what_a_call_becomes(project: Path) -> None:
    more = (
        '[[rule]]\nname = "short"\ntools = ["calculator"]\nverdict = "modify"\nset = { digits = 2 }\n'
        '[[rule]]\nname = "night"\ntools = ["calculator"]\npurposes = ["rollout"]\nverdict = "deny"\n'
    )
    (project / "policies" / "more.toml").write_text(more, encoding="utf-8")
    found = explain("calculator", '{"expression": "1"}')
    assert (found["verdict"], found["arguments"]) == ("modify", {"expression": "1", "digits": 2})
    assert [each["rule"] for each in found["matching"]] == ["short", "sums"]  # type: ignore[attr-defined]
    assert explain("calculator", '{"expression": "1"}', "--purpose", "rollout")["rule"] == "night"
    shown = CliRunner().invoke(policy, ["explain", "calculator", '{"expression": "1"}'], catch_exceptions=False).stdout
    assert 'becomes\t{"digits":2,"expression":"1"}' in shown
    assert "also applies\tallow: sums" in shown


def test_rules_in_shadow_mode_are_listed_and_explained_and_not_obeyed(project: Path) -> None:
    strict = 'mode = "shadow"\n[[rule]]\nname = "none"\ntools = ["*"]\nverdict = "deny"\n'
    (project / "policies" / "try.toml").write_text(strict, encoding="utf-8")
    found = explain("calculator", '{"expression": "1"}')
    assert (found["verdict"], found["shadow"]["verdict"]) == ("allow", "deny")  # type: ignore[index]
    assert "deny (shadow)" in CliRunner().invoke(policy, ["check"], catch_exceptions=False).stdout


def test_test_runs_every_example_and_shows_all_that_fail(project: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(policy, ["test"], catch_exceptions=False)
    assert "0 examples in 1 rules, 0 failed" in good.stderr
    bad = (
        '[[rule]]\ntools = ["a"]\nverdict = "deny"\n'
        'match = [{ tool = "b" }, { tool = "c" }, {}]\nnot_match = [{ tool = "b" }]\n'
    )
    (project / "policies" / "bad.toml").write_text(bad, encoding="utf-8")
    result = runner.invoke(policy, ["test", "--json"], catch_exceptions=False, standalone_mode=False)
    found = json.loads(result.stdout)
    assert (result.return_value, found["rules"], found["examples"]) == (1, 2, 4)
    assert [each["said"] for each in found["failed"]] == [f"the rule does not apply to {name} {{}}" for name in "bc"]
    with pytest.raises(UsageError, match=r"bad\.toml:1: the rule does not apply to b"):
        runner.invoke(policy, ["check"], catch_exceptions=False)
