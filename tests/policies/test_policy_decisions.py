"""The truth table of small policies, and what holds for all of them.

The table is worked out by another way than `check` takes: which rules apply is told by looking them up here.
"""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koboshi_policies import (
    PURPOSES,
    Circumstances,
    Policy,
    PolicyLayer,
    Rule,
    RuleText,
    Verdict,
    check,
    matching,
    offerable,
)
from koboshi_runtime.records import Purpose
from koboshi_tools import ToolCall

STRICTNESS = {Verdict.ALLOW: 0, Verdict.MODIFY: 1, Verdict.ASK: 2, Verdict.DENY: 3}
VERDICTS = tuple(STRICTNESS)
# Changes nothing that the table's patterns look at, so that the rules of the changed call are those of the call.
CHANGE = {"set": {"note": "changed"}}
CALL = ToolCall(name="sql", arguments={"query": "select 1", "limit": 5})
GLOBS = ("sql", "s*", "files_*")
PATTERNS: tuple[dict[str, str], ...] = ({}, {"query": "^select"}, {"query": "^drop"}, {"missing": ""})


def rule(verdict: Verdict, glob: str = "sql", arguments: dict[str, str] | None = None, layer: str = "project") -> Rule:
    change = CHANGE if verdict is Verdict.MODIFY else {}
    text = RuleText.model_validate({"tools": (glob,), "verdict": verdict, "arguments": arguments or {}, **change})
    return Rule(text=text, name="r", layer=layer, file="p.toml", line=1)


ALL_RULES = [rule(verdict, glob, arguments) for verdict in VERDICTS for glob in GLOBS for arguments in PATTERNS]


def expected(rules: tuple[Rule, ...]) -> Verdict:
    applying = [
        rule.text.verdict
        for rule in rules
        if rule.text.tools[0] != "files_*" and rule.text.arguments in ({}, {"query": "^select"})
    ]
    # Changing is no permission: what is left to decide must allow or ask.
    if not [verdict for verdict in applying if verdict is not Verdict.MODIFY]:
        return Verdict.DENY
    return max(applying, key=STRICTNESS.__getitem__)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_every_policy_of_up_to_two_rules_decides_as_the_truth_table_says(size: int) -> None:
    for rules in itertools.product(ALL_RULES, repeat=size):
        assert check(CALL, Policy.of(rules)).verdict is expected(rules)


@pytest.mark.parametrize("verdicts", list(itertools.product(VERDICTS, repeat=3)))
def test_the_strictest_of_three_rules_wins_in_any_order(verdicts: tuple[Verdict, ...]) -> None:
    rules = tuple(rule(verdict) for verdict in verdicts)
    decision = check(CALL, Policy.of(rules))
    assert decision.verdict is expected(rules)
    assert (decision.arguments is not None) == (Verdict.MODIFY in verdicts and decision.verdict is not Verdict.DENY)


def written(verdict: Verdict, tool: str, layer: str, parts: dict[str, Any], change: dict[str, Any]) -> Rule:
    given = {"tools": (tool,), "verdict": verdict, **parts, **(change if verdict is Verdict.MODIFY else {})}
    return Rule(text=RuleText.model_validate(given), name="r", layer=layer, file="p.toml", line=1)


PARTS: tuple[dict[str, Any], ...] = (
    *({"arguments": pattern} for pattern in PATTERNS),
    {"arguments": {"limit": "^5$"}},
    {"where": {"limit": {"min": 1, "max": 10}}},
    {"where": {"limit": {"max": 3}}},
    {"where": {"query": {"sql": ["select"]}}},
    {"where": {"other": {"inside": ["data"]}}},
    {"purposes": ["rollout", "gate"]},
    {"purposes": ["work"]},
)
CHANGES: tuple[dict[str, Any], ...] = (
    {"set": {"limit": 5}},
    {"set": {"query": "select 1", "other": "data/x"}},
    {"clamp": {"limit": {"min": 0, "max": 3}}},
    {"drop": ["query"]},
    {"drop": ["limit"], "set": {"query": "drop table t"}},
)
RULES = st.builds(
    written,
    st.sampled_from(VERDICTS),
    st.sampled_from(("sql", "s*", "*", "files_*", "[")),
    st.sampled_from(("system", "user", "project", "flag")),
    st.sampled_from(PARTS),
    st.sampled_from(CHANGES),
)
NOW = st.builds(
    Circumstances,
    purpose=st.sampled_from(PURPOSES),
    in_run=st.dictionaries(st.sampled_from(("sql", "calculator")), st.integers(0, 3)),
)
CALLS = st.builds(
    ToolCall,
    name=st.sampled_from(("sql", "files_read", "calculator", "")),
    arguments=st.dictionaries(st.sampled_from(("query", "limit", "other")), st.text() | st.integers() | st.none()),
)


@settings(deadline=None, max_examples=500)
@given(CALLS, NOW, st.lists(RULES, max_size=5), st.lists(RULES, max_size=5), st.integers(0, 5))
def test_no_further_layer_turns_a_ruled_deny_or_ask_into_less(
    call: ToolCall, now: Circumstances, rules: list[Rule], added: list[Rule], at: int
) -> None:
    before = check(call, Policy.of(rules), now)
    after = check(call, Policy.of([*rules[:at], *added, *rules[at:]]), now)
    if before.rule is not None and before.verdict in (Verdict.ASK, Verdict.DENY):
        assert STRICTNESS[after.verdict] >= STRICTNESS[before.verdict]


@settings(deadline=None)
@given(CALLS, NOW, st.lists(RULES, max_size=5))
def test_a_call_that_may_pass_is_always_offered(call: ToolCall, now: Circumstances, rules: list[Rule]) -> None:
    policy = Policy.of(rules)
    if check(call, policy, now).verdict is not Verdict.DENY:
        assert offerable([call.name], policy, now.purpose) == (call.name,)


@settings(deadline=None)
@given(CALLS, NOW, st.lists(RULES, max_size=5))
def test_a_call_is_made_only_with_arguments_that_are_allowed_and_not_changed_again(
    call: ToolCall, now: Circumstances, rules: list[Rule]
) -> None:
    policy = Policy.of(rules)
    decision = check(call, policy, now)
    if decision.permits:
        made = ToolCall(name=call.name, arguments=decision.arguments or call.arguments)
        again = check(made, policy, now)
        assert (again.verdict, again.arguments) == (Verdict.ALLOW, None)


def test_a_call_without_a_rule_is_denied_by_name() -> None:
    decision = check(ToolCall(name="shell", arguments={}), Policy.of([rule(Verdict.ALLOW)]))
    assert (decision.verdict, decision.rule) == (Verdict.DENY, None)
    assert "'shell'" in decision.reason


def test_a_missing_argument_matches_neither_an_allow_nor_a_deny() -> None:
    call = ToolCall(name="sql", arguments={})
    allow = Policy.of([rule(Verdict.ALLOW, arguments={"query": ""})])
    assert check(call, allow).verdict is Verdict.DENY
    both = Policy.of([rule(Verdict.ALLOW), rule(Verdict.DENY, arguments={"query": ""})])
    assert check(call, both).verdict is Verdict.ALLOW


def test_an_argument_that_is_not_text_is_matched_as_canonical_json() -> None:
    policy = Policy.of([rule(Verdict.ALLOW, arguments={"filter": r'^\{"a":\[1,true\],"b":null\}$'})])
    call = ToolCall(name="sql", arguments={"filter": {"b": None, "a": [1, True]}})
    assert check(call, policy).verdict is Verdict.ALLOW


@pytest.mark.parametrize("value", [float("nan"), "x" * 100_001])
def test_a_rule_that_fails_denies_and_says_which(value: object) -> None:
    policy = Policy.of([rule(Verdict.ALLOW), rule(Verdict.ALLOW, arguments={"query": "."})])
    decision = check(ToolCall(name="sql", arguments={"query": value}), policy)
    assert (decision.verdict, decision.rule) == (Verdict.DENY, "r")
    assert decision.reason.startswith("the rule failed: ValueError")


def test_a_value_nested_too_deeply_to_look_at_is_denied() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    call = ToolCall.model_construct(name="sql", arguments={"query": nested})
    assert check(call, Policy.of([rule(Verdict.ALLOW, arguments={"query": "."})])).verdict is Verdict.DENY


def test_of_equally_strict_rules_the_first_layer_is_named() -> None:
    rules = [rule(Verdict.DENY, layer=layer) for layer in ("system", "user", "project")]
    assert check(CALL, Policy.of(rules)).layer == "system"


def test_a_tool_denied_outright_is_not_offered_and_one_denied_in_part_is() -> None:
    rules = [rule(Verdict.ALLOW, "*"), rule(Verdict.DENY, "files_*"), rule(Verdict.DENY, "sql", {"query": "drop"})]
    assert offerable(["files_read", "sql", "calculator"], Policy.of(rules)) == ("sql", "calculator")


def test_the_hash_names_what_is_said_and_not_where(tmp_path: Path) -> None:
    said = '[[rule]]\ntools = ["sql"]\nverdict = "allow"\n'
    for name, text in (("a", said), ("b", f"# elsewhere\n\n{said}"), ("c", said.replace("allow", "ask"))):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    hashes = [Policy.load([PolicyLayer("project", tmp_path / f"{name}.toml")]).hash for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    assert hashes[0].startswith("sha256:")


def test_every_purpose_of_a_run_can_stand_in_a_rule() -> None:
    assert tuple(PURPOSES) == tuple(purpose.value for purpose in Purpose)


def toml(folder: Path, text: str) -> Policy:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return Policy.load([PolicyLayer("project", path)])


ALLOW_SQL = '[[rule]]\nname = "reads"\ntools = ["sql"]\nverdict = "allow"\n'


def test_a_modified_call_is_allowed_by_another_rule_and_names_the_one_that_changed_it(tmp_path: Path) -> None:
    clamp = (
        '[[rule]]\nname = "few"\ntools = ["sql"]\nverdict = "modify"\nclamp = { limit = { max = 3 } }\nreason = "few"\n'
    )
    decision = check(CALL, toml(tmp_path, ALLOW_SQL + clamp))
    assert (decision.verdict, decision.rule, decision.reason) == (Verdict.MODIFY, "few", "few")
    assert decision.arguments == {"query": "select 1", "limit": 3}
    assert check(CALL, toml(tmp_path, clamp)).reason == "no rule allows this call of 'sql'"


def test_a_modified_call_is_checked_again(tmp_path: Path) -> None:
    rules = (
        '[[rule]]\ntools = ["sql"]\nverdict = "allow"\nwhere = { limit = { max = 3 } }\n'
        '[[rule]]\ntools = ["sql"]\nverdict = "modify"\nclamp = { limit = { max = 3 } }\n'
        '[[rule]]\ntools = ["sql"]\nverdict = "deny"\narguments = { limit = "^3$", query = "secret" }\n'
    )
    policy = toml(tmp_path, rules)
    assert check(CALL, policy).verdict is Verdict.MODIFY
    secret = ToolCall(name="sql", arguments={"query": "select secret", "limit": 5})
    assert (check(secret, policy).verdict, check(secret, policy).arguments) == (Verdict.DENY, None)


def test_a_modify_rule_leads_no_call_around_a_deny_or_an_ask(tmp_path: Path) -> None:
    dodge = '[[rule]]\ntools = ["sql"]\nverdict = "modify"\nset = { limit = 1 }\n'
    for verdict in ("deny", "ask"):
        strict = f'[[rule]]\ntools = ["sql"]\nverdict = "{verdict}"\narguments = {{ limit = "^5$" }}\n'
        assert check(CALL, toml(tmp_path, ALLOW_SQL + dodge + strict)).verdict == verdict


def test_who_is_asked_is_asked_about_the_modified_call(tmp_path: Path) -> None:
    rules = ALLOW_SQL.replace("allow", "ask") + '[[rule]]\ntools = ["sql"]\nverdict = "modify"\ndrop = ["limit"]\n'
    decision = check(CALL, toml(tmp_path, rules))
    assert (decision.verdict, decision.rule, decision.arguments) == (Verdict.ASK, "reads", {"query": "select 1"})


@pytest.mark.parametrize(
    "endless",
    [
        '[[rule]]\ntools = ["sql"]\nverdict = "modify"\narguments = { limit = "5" }\nset = { limit = 6 }\n'
        '[[rule]]\ntools = ["sql"]\nverdict = "modify"\narguments = { limit = "6" }\nset = { limit = 5 }\n',
        "".join(f'[[rule]]\ntools = ["sql"]\nverdict = "modify"\nset = {{ a{n} = {n} }}\n' for n in range(6)),
        '[[rule]]\ntools = ["sql"]\nverdict = "modify"\nclamp = { query = { max = 1 } }\n',
    ],
)
def test_changes_that_do_not_settle_spread_or_fail_deny(tmp_path: Path, endless: str) -> None:
    decision = check(CALL, toml(tmp_path, ALLOW_SQL + endless))
    assert (decision.verdict, decision.layer) == (Verdict.DENY, "project")
    assert decision.reason.startswith(("the rules that change this call", "the rule failed"))


def test_a_grant_for_the_night_holds_for_the_night_only(tmp_path: Path) -> None:
    rules = (
        '[[rule]]\ntools = ["sql"]\npurposes = ["work"]\nverdict = "ask"\n'
        '[[rule]]\nname = "night"\ntools = ["sql"]\npurposes = ["rollout", "gate", "eval"]\nverdict = "allow"\n'
    )
    policy = toml(tmp_path, rules)
    found = {purpose: check(CALL, policy, Circumstances(purpose)).verdict for purpose in PURPOSES}
    night = dict.fromkeys(("rollout", "gate", "eval"), Verdict.ALLOW)
    assert found == {"work": Verdict.ASK, "bench": Verdict.DENY, "canary": Verdict.DENY, **night}
    assert (offerable(["sql"], policy, "bench"), offerable(["sql"], policy, "gate")) == ((), ("sql",))


@pytest.mark.parametrize(
    ("limit", "now"),
    [
        ("calls_per_run = 2", Circumstances(in_run={"sql": 1, "sql_other": 1, "calculator": 9})),
        ("calls_per_minute = 2", Circumstances(last_minute={"sql": 2}, in_run={"sql": 1})),
        ("calls_per_hour = 2", Circumstances(last_hour={"sql_other": 3})),
    ],
)
def test_a_spent_limit_denies_whatever_else_allows(tmp_path: Path, limit: str, now: Circumstances) -> None:
    limited = f'[[rule]]\nname = "few"\ntools = ["sql*"]\nverdict = "allow"\n{limit}\n'
    policy = toml(tmp_path, ALLOW_SQL + limited)
    assert check(CALL, policy).verdict is Verdict.ALLOW
    decision = check(CALL, policy, now)
    assert (decision.verdict, decision.rule) == (Verdict.DENY, "few")
    assert decision.reason.endswith("and 2 are allowed")


def test_matching_lists_every_rule_that_applies(tmp_path: Path) -> None:
    rules = ALLOW_SQL + '[[rule]]\nname = "m"\ntools = ["s*"]\nverdict = "modify"\nset = { a = 1 }\n'
    other = '[[rule]]\nname = "no"\ntools = ["files"]\nverdict = "deny"\n'
    found = matching(CALL, toml(tmp_path, rules + other))
    assert [(each.rule, each.verdict) for each in found] == [("reads", Verdict.ALLOW), ("m", Verdict.MODIFY)]


def test_examples_and_names_of_rules_do_not_change_the_hash(tmp_path: Path) -> None:
    plain = toml(tmp_path, ALLOW_SQL)
    tested = toml(tmp_path, ALLOW_SQL + 'match = [{ arguments = { query = "select 1" } }]\n')
    assert plain.hash == tested.hash


def test_shadow_rules_are_not_obeyed_and_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(ALLOW_SQL, encoding="utf-8")
    strict = 'mode = "shadow"\n' + ALLOW_SQL.replace("allow", "deny").replace("reads", "none")
    (tmp_path / "b.toml").write_text(strict, encoding="utf-8")
    policy = Policy.load([PolicyLayer("project", tmp_path)])
    assert check(CALL, policy).verdict is Verdict.ALLOW
    assert policy.shadow is not None
    assert check(CALL, policy.shadow).verdict is Verdict.DENY
    (tmp_path / "b.toml").unlink()
    assert Policy.load([PolicyLayer("project", tmp_path)]) == Policy(policy.rules, policy.hash)
