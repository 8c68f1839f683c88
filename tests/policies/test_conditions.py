"""Typed conditions on an argument: what holds, what does not, and what cannot be judged and therefore denies."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from koboshi_policies import Policy, Rule, RuleText, Verdict, check
from koboshi_policies.conditions import Condition
from koboshi_tools import ToolCall


def decided(condition: dict[str, Any], value: object, verdict: Verdict = Verdict.ALLOW) -> str:
    """Say what a policy of one conditional rule decides, beside an allow for everything where it is a deny."""
    text = {"tools": ["t"], "verdict": verdict, "where": {"x": condition}}
    rules = [Rule(text=RuleText.model_validate(text), name="where", layer="project", file="p.toml", line=1)]
    if verdict is not Verdict.ALLOW:
        everything = RuleText(tools=("*",), verdict=Verdict.ALLOW)
        rules.append(Rule(text=everything, name="all", layer="project", file="p.toml", line=9))
    found = check(ToolCall(name="t", arguments={"x": value}), Policy.of(rules))
    return "failed" if found.reason.startswith("the rule failed") else found.verdict.value


@pytest.mark.parametrize(
    ("condition", "value", "wanted"),
    [
        ({"min": 1, "max": 3}, 1, "allow"),
        ({"min": 1, "max": 3}, 3.0, "allow"),
        ({"min": 1, "max": 3}, 3.1, "deny"),
        ({"min": 1}, 0, "deny"),
        ({"max": 3}, True, "failed"),
        ({"max": 3}, "2", "failed"),
        ({"max": 3}, None, "failed"),
        ({"max": 3}, float("nan"), "failed"),
        ({"max": 3}, [1, 2, 3], "allow"),
        ({"max": 3}, [1, 2, 4], "deny"),
        ({"max": 3}, [], "failed"),
        ({"max": 3}, {"a": 1}, "failed"),
        ({"inside": ["data"]}, "data/a.txt", "allow"),
        ({"inside": ["data"]}, "./data//b/../a.txt", "allow"),
        ({"inside": ["data"]}, "data", "allow"),
        ({"inside": ["data", "more/"]}, "more/x", "allow"),
        ({"inside": ["data"]}, "database/a.txt", "deny"),
        ({"inside": ["data"]}, "data/../secret", "deny"),
        ({"inside": ["."]}, "anything/below", "allow"),
        ({"inside": ["data"]}, "data/../../data/x", "failed"),
        ({"inside": ["data"]}, "/work/data/x", "failed"),
        ({"inside": ["data"]}, "~/data", "failed"),
        ({"inside": ["data"]}, "data/\0x", "failed"),
        ({"inside": ["data"]}, "", "failed"),
        ({"inside": ["/srv"]}, "//srv/x", "allow"),
        ({"inside": ["/srv"]}, "/srv/../etc/passwd", "deny"),
        ({"outside": ["secrets"]}, "data/x", "allow"),
        ({"outside": ["secrets"]}, "data/../secrets/x", "deny"),
        ({"outside": ["secrets"]}, "/abs/secrets/x", "failed"),
        ({"inside": ["data"], "outside": ["data/private"]}, "data/private/k", "deny"),
        ({"hosts": ["example.org"]}, "https://example.org/a?b=c", "allow"),
        ({"hosts": ["example.org"]}, "https://EXAMPLE.org.:8080/", "allow"),
        ({"hosts": ["*.example.org"]}, "https://a.b.example.org/", "allow"),
        ({"hosts": ["*.example.org"]}, "https://example.org/", "deny"),
        ({"hosts": ["example.org"]}, "https://example.org.evil.net/", "deny"),
        ({"hosts": ["example.org"]}, "https://evil.net/#example.org", "deny"),
        ({"hosts": ["example.org"]}, "https://evil.net\\@example.org/", "failed"),
        ({"hosts": ["example.org"]}, "https://example.org@evil.net/", "failed"),
        ({"hosts": ["example.org"]}, "https://exam\nple.org/", "failed"),
        ({"hosts": ["example.org"]}, "file://example.org/x", "failed"),
        ({"hosts": ["example.org"]}, "example.org", "failed"),
        ({"hosts": ["example.org"]}, "https://exämple.org/", "failed"),
        ({"sql": ["select"]}, "select 1", "allow"),
        ({"sql": ["select"]}, "select 1; delete from t", "deny"),
        ({"sql": ["select"]}, "  ", "failed"),
        ({"sql": ["select"]}, 7, "failed"),
    ],
)
def test_a_condition_allows_what_it_says_and_nothing_that_it_cannot_judge(
    condition: dict[str, Any], value: object, wanted: str
) -> None:
    assert decided(condition, value) == wanted


@pytest.mark.parametrize(
    ("condition", "value", "wanted"),
    [
        ({"sql": ["delete", "ddl"]}, "select 1; delete from t", "deny"),
        ({"sql": ["delete", "ddl"]}, "select 1", "allow"),
        ({"inside": ["secrets"]}, ["data/x", "secrets/y"], "deny"),
        ({"inside": ["secrets"]}, ["data/x"], "allow"),
        ({"inside": ["secrets"]}, "/workspace/secrets/y", "failed"),
        ({"hosts": ["*.internal"]}, ["http://a.org/", "http://db.internal/"], "deny"),
    ],
)
def test_one_part_is_enough_to_deny(condition: dict[str, Any], value: object, wanted: str) -> None:
    assert decided(condition, value, Verdict.DENY) == wanted


def test_an_argument_that_is_left_out_meets_no_condition() -> None:
    text = RuleText.model_validate({"tools": ["t"], "verdict": "allow", "where": {"x": {"max": 3}}})
    rule = Rule(text=text, name="r", layer="project", file="p.toml", line=1)
    assert check(ToolCall(name="t", arguments={}), Policy.of([rule])).verdict is Verdict.DENY


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, "a condition is empty"),
        ({"min": 2, "max": 1}, "min 2 is above max 1"),
        ({"min": float("inf")}, "finite"),
        ({"inside": ["../up"]}, "leads out"),
        ({"inside": [""]}, "not a path"),
        ({"hosts": ["Example.org"]}, "not a host name"),
        ({"hosts": ["https://example.org"]}, "not a host name"),
        ({"sql": ["selects"]}, "Input should be 'select'"),
        ({"less": 3}, "Extra inputs"),
    ],
)
def test_a_condition_that_says_nothing_clear_is_refused(written: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Condition.model_validate(written)


@given(st.text(alphabet="ab./~", max_size=12), st.sampled_from(("a", "b/a", ".")))
def test_no_path_is_both_inside_a_folder_and_outside_of_it(path: str, folder: str) -> None:
    found = {decided({side: [folder]}, path) for side in ("inside", "outside")}
    assert found in ({"allow", "deny"}, {"failed"})
