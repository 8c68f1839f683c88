"""Policy files: what is read from them, and what refuses them."""

from pathlib import Path

import pytest

from koboshi_policies import Policy, PolicyLayer, Verdict, check, policy_layers, preset, preset_names
from koboshi_tools import ToolCall, UsageError, builtin_tools

ALLOW = '[[rule]]\ntools = ["calculator"]\nverdict = "allow"\n'
MODIFY = ALLOW.replace("allow", "modify")
ANY = ALLOW.replace("calculator", "c*")


def write(folder: Path, text: str, name: str = "rules.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(path: Path) -> Policy:
    return Policy.load([PolicyLayer("project", path)])


def test_a_decision_names_rule_file_line_and_layer(tmp_path: Path) -> None:
    path = write(
        tmp_path, f'# first\n\n{ALLOW}\n[[rule]]\nname = "two"\ntools = ["sql"]\nverdict = "ask"\nreason = "why"\n'
    )
    first = check(ToolCall(name="calculator", arguments={}), load(path))
    second = check(ToolCall(name="sql", arguments={}), load(path))
    assert (first.rule, first.file, first.line, first.layer) == ("rule-1", str(path), 3, "project")
    assert (second.rule, second.line, second.reason) == ("two", 7, "why")


def test_a_header_inside_a_string_or_a_comment_is_none(tmp_path: Path) -> None:
    text = (
        '# [[rule]]\n[[rule]] # [[rule]]\ntools = ["a"]\nverdict = "allow"\n'
        'reason = """\n[[rule]]\n\\"""\n[[rule]]"""\n'
        "[[ rule ]]\ntools = ['[[rule]]']\nverdict = 'deny'\nreason = '''\n[[rule]]'''\n"
    )
    assert [rule.line for rule in load(write(tmp_path, text)).rules] == [2, 9]


def test_windows_line_ends_count_once(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(f"# one\n\n{ALLOW}".replace("\n", "\r\n").encode())
    assert load(path).rules[0].line == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]]\ntools = [\n", "rules.toml:2: Invalid value"),
        ("[[rule]]\ntools = 1 2\n", "rules.toml:2: "),
        ('[[rule]]\ntools = ["a"]\nverdict = "permit"\n', "rules.toml:1: verdict"),
        ('[[rule]]\ntools = ["a"]\nverdict = "modify"\n', "rules.toml:1: the verdict modify needs drop, set or clamp"),
        ('[[rule]]\nverdict = "allow"\n', "rules.toml:1: tools"),
        ('[[rule]]\ntools = []\nverdict = "allow"\n', "rules.toml:1: tools"),
        ('[[rule]]\ntools = "sql"\nverdict = "allow"\n', "rules.toml:1: tools"),
        (f'{ALLOW}\n[[rule]]\ntools = [""]\nverdict = "allow"\n', "rules.toml:5: tools: a tool name is empty"),
        (f"{ALLOW}arguments = {{ query = '(' }}\n", "rules.toml:1: arguments: the pattern of 'query'"),
        (f"{ALLOW}colour = 'red'\n", "rules.toml:1: colour: unknown key"),
        (f"{ALLOW}set = {{ a = 1 }}\n", "rules.toml:1: drop, set and clamp belong to the verdict modify"),
        (f"{MODIFY}set = {{ day = 2026-01-01 }}\n", "rules.toml:1: set: a value is not JSON"),
        (f"{MODIFY}clamp = {{ n = {{}} }}\n", "rules.toml:1: clamp.n: bounds are empty"),
        (f"{MODIFY}drop = ['a']\ncalls_per_run = 1\n", "rules.toml:1: calls_per_run"),
        (f"{ALLOW}calls_per_hour = 0\n", "rules.toml:1: calls_per_hour: Input should be greater"),
        (f"{ALLOW}purposes = ['night']\n", "rules.toml:1: purposes.0: Input should be 'work'"),
        (f"{ALLOW}where = {{ n = {{ most = 3 }} }}\n", "rules.toml:1: where.n.most: unknown key"),
        ("mode = 'off'\n", "mode is 'off'"),
        ("[[swap]]\ntool = 'lookup'\n", "rules.toml: swap.0.version: Field required"),
        ("[[swap]]\ntool = 'a'\nversion = '2'\nshare = 0.9\n", "rules.toml: swap.0.share: Input should be less"),
        ("mode = 'shadow'\n[[swap]]\ntool = 'a'\nversion = '2'\n", "a file in shadow mode swaps nothing"),
        (f"{ANY}match = [{{ arguments = {{}} }}]\n", "rules.toml:1: an example names no tool"),
        (
            f"# \n{ALLOW}arguments = {{ n = '^1' }}\nmatch = [{{ arguments = {{ n = 2 }} }}]\n",
            'rules.toml:2: the rule does not apply to calculator {"n":2}',
        ),
        (
            f"{ALLOW}not_match = [{{ arguments = {{ n = 2 }} }}]\n",
            'rules.toml:1: the rule applies to calculator {"n":2}',
        ),
        (
            f"{ALLOW}where = {{ n = {{ max = 1 }} }}\nnot_match = [{{ arguments = {{ n = 'x' }} }}]\n",
            'rules.toml:1: the rule fails on calculator {"n":"x"}: ValueError: \'x\' is not a number',
        ),
        (
            f"{MODIFY}clamp = {{ n = {{ max = 1 }} }}\n"
            "match = [{ arguments = { n = 3 }, becomes = { n = 2 } }]\n",
            'rules.toml:1: calculator {"n":3} becomes {"n":1}, not {"n":2}',
        ),
        ("rules = []\n", "unknown key 'rules'"),
        ('rule = [{tools = ["a"], verdict = "deny"}]\n', "[[rule]] header"),
        ("rule = 'x'\n", "[[rule]] header"),
        ("rule = " + "[" * 5000, "rules.toml:1: "),
        (f"{ALLOW}name = 'x'\n{ALLOW}name = 'x'\n", "rules.toml:5: the name 'x' is that of the rule on line 1"),
    ],
)
def test_a_file_that_is_not_wholly_understood_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(write(tmp_path, text))
    assert said in str(refused.value)
    assert refused.value.hint


def test_a_missing_file_and_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the policy"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError, match="not UTF-8 at byte 5"):
        load(tmp_path / "latin.toml")


def test_layers_come_in_order_and_a_system_deny_is_final(tmp_path: Path) -> None:
    system, user = tmp_path / "etc", tmp_path / "config" / "koboshi" / "policies"
    write(system, ALLOW.replace("allow", "deny"))
    write(user, ALLOW)
    project, flag = write(tmp_path, ALLOW, "project.toml"), write(tmp_path, ALLOW, "flag.toml")
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    layers = policy_layers([project], [flag], environment=environment, system=system)
    assert [layer.name for layer in layers] == ["system", "user", "project", "flag"]
    decision = check(ToolCall(name="calculator", arguments={}), Policy.load(layers))
    assert (decision.verdict, decision.layer) == (Verdict.DENY, "system")


def test_without_any_file_the_default_preset_applies(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    layers = policy_layers([tmp_path / "empty"], environment={"HOME": str(tmp_path)}, system=tmp_path / "none")
    policy = Policy.load(layers)
    verdicts = {
        name: check(ToolCall(name=name, arguments={}), policy).verdict for name in ("calculator", "sql", "shell")
    }
    assert verdicts == {"calculator": Verdict.ALLOW, "sql": Verdict.ASK, "shell": Verdict.DENY}


def test_the_readonly_preset_allows_exactly_the_built_in_tools_that_read() -> None:
    policy = Policy.load([PolicyLayer("project", preset("readonly"))])
    for name, tool in builtin_tools().items():
        allowed = check(ToolCall(name=name, arguments={}), policy).verdict is Verdict.ALLOW
        assert allowed == (tool.effect == "read")


def test_every_preset_loads_and_an_unknown_one_is_refused() -> None:
    assert preset_names() == ("default", "readonly")
    assert all(Policy.load([PolicyLayer("p", preset(name))]).rules for name in preset_names())
    with pytest.raises(UsageError, match="no policy preset 'loose'"):
        preset("loose")


def test_a_rule_whose_examples_hold_loads(tmp_path: Path) -> None:
    text = (
        f"{MODIFY}purposes = ['rollout']\nclamp = {{ n = {{ max = 1 }} }}\n"
        "match = [{ arguments = { n = 3 }, becomes = { n = 1 } }, { arguments = { n = 0 } }]\n"
        "not_match = [{ tool = 'sql' }, { arguments = { n = 3 }, purpose = 'work' }]\n"
    )
    assert len(load(write(tmp_path, text)).rules) == 1


def test_of_two_layers_that_swap_the_same_tool_the_first_counts(tmp_path: Path) -> None:
    system = write(tmp_path, "[[swap]]\ntool = 'a'\nversion = '2'\n", "system.toml")
    project = write(tmp_path, "[[swap]]\ntool = 'a'\nversion = '3'\n[[swap]]\ntool = 'b'\nversion = '1'\n", "own.toml")
    policy = Policy.load([PolicyLayer("system", system), PolicyLayer("project", project)])
    assert {swap.tool: swap.version for swap in policy.swaps} == {"a": "2", "b": "1"}
    assert policy.hash == Policy.of(()).hash
