"""The truth table of small policies, and what holds for all of them."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koboshi_policies import Policy, PolicyLayer, Rule, RuleText, Verdict, check, offerable
from koboshi_tools import ToolCall

STRICTNESS = {Verdict.ALLOW: 0, Verdict.ASK: 2, Verdict.DENY: 3}
VERDICTS = tuple(STRICTNESS)
CALL = ToolCall(name="sql", arguments={"query": "select 1", "limit": 5})
GLOBS = ("sql", "s*", "files_*")
PATTERNS: tuple[dict[str, str], ...] = ({}, {"query": "^select"}, {"query": "^drop"}, {"missing": ""})


def rule(verdict: Verdict, glob: str = "sql", arguments: dict[str, str] | None = None, layer: str = "project") -> Rule:
    text = RuleText.model_validate({"tools": (glob,), "verdict": verdict, "arguments": arguments or {}})
    return Rule(text=text, name="r", layer=layer, file="p.toml", line=1)


ALL_RULES = [rule(verdict, glob, arguments) for verdict in VERDICTS for glob in GLOBS for arguments in PATTERNS]


def expected(rules: tuple[Rule, ...]) -> Verdict:
    applying = [
        rule.text.verdict
        for rule in rules
        if rule.text.tools[0] != "files_*" and rule.text.arguments in ({}, {"query": "^select"})
    ]
    return max(applying, key=STRICTNESS.__getitem__, default=Verdict.DENY)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_every_policy_of_up_to_two_rules_decides_as_the_truth_table_says(size: int) -> None:
    for rules in itertools.product(ALL_RULES, repeat=size):
        assert check(CALL, Policy.of(rules)).verdict is expected(rules)


@pytest.mark.parametrize("verdicts", list(itertools.product(VERDICTS, repeat=3)))
def test_the_strictest_of_three_rules_wins_in_any_order(verdicts: tuple[Verdict, ...]) -> None:
    strictest = max(verdicts, key=STRICTNESS.__getitem__)
    assert check(CALL, Policy.of(rule(verdict) for verdict in verdicts)).verdict is strictest


RULES = st.builds(
    rule,
    st.sampled_from(VERDICTS),
    st.sampled_from(("sql", "s*", "*", "files_*", "[", "")).filter(bool),
    st.sampled_from((*PATTERNS, {"limit": "^5$"}, {"query": "(?i)SELECT"})),
    st.sampled_from(("system", "user", "project", "flag")),
)
CALLS = st.builds(
    ToolCall,
    name=st.sampled_from(("sql", "files_read", "calculator", "")),
    arguments=st.dictionaries(st.sampled_from(("query", "limit", "other")), st.text() | st.integers() | st.none()),
)


@settings(deadline=None)
@given(CALLS, st.lists(RULES, max_size=4), st.lists(RULES, max_size=4), st.integers(0, 4))
def test_no_further_layer_turns_a_ruled_deny_or_ask_into_less(
    call: ToolCall, rules: list[Rule], added: list[Rule], at: int
) -> None:
    before = check(call, Policy.of(rules))
    after = check(call, Policy.of([*rules[:at], *added, *rules[at:]]))
    if before.rule is not None:
        assert STRICTNESS[after.verdict] >= STRICTNESS[before.verdict]


@settings(deadline=None)
@given(CALLS, st.lists(RULES, max_size=5))
def test_a_call_that_may_pass_is_always_offered(call: ToolCall, rules: list[Rule]) -> None:
    policy = Policy.of(rules)
    if check(call, policy).verdict is not Verdict.DENY:
        assert offerable([call.name], policy) == (call.name,)


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
