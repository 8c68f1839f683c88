"""A policy held against logged calls: which of them it would have decided otherwise, exactly."""

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from koboshi_policies import Answer, Circumstances, Decision, LoggedCall, Policy, PolicyLayer, Verdict, check, replay
from koboshi_tools import ToolCall

ALLOWED = Decision(verdict=Verdict.ALLOW, reason="")


def logged(n: int = 1, run: str = "r", at: float = 0.0, decision: Decision = ALLOWED, **fields: Any) -> LoggedCall:
    call = ToolCall(name=fields.pop("tool", "sql"), arguments={"n": n})
    values: dict[str, Any] = {"run_id": run, "step_index": 0, "purpose": "work", "at": at, "call": call}
    return LoggedCall(**values | {"decision": decision} | fields)


def policy(folder: Path, text: str) -> Policy:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return Policy.load([PolicyLayer("project", path)])


RULES = (
    '[[rule]]\nname = "small"\ntools = ["sql"]\nverdict = "allow"\nwhere = { n = { max = 5 } }\n'
    '[[rule]]\nname = "even"\ntools = ["sql"]\nverdict = "ask"\narguments = { n = "[02468]$" }\n'
    '[[rule]]\nname = "nine"\ntools = ["sql"]\nverdict = "modify"\narguments = { n = "^9$" }\nset = { n = 5 }\n'
)


def test_only_calls_that_are_decided_otherwise_differ(tmp_path: Path) -> None:
    asked = Decision(verdict=Verdict.ALLOW, reason="", asked=Answer.APPROVED)
    changed = Decision(verdict=Verdict.MODIFY, reason="", arguments={"n": 5})
    calls = [
        logged(1),
        logged(2),
        logged(2, decision=asked),
        logged(7),
        logged(9),
        logged(9, decision=changed),
        logged(9, decision=changed.model_copy(update={"arguments": {"n": 4}})),
        logged(1, tool="shell"),
    ]
    found = list(replay(calls, policy(tmp_path, RULES)))
    assert [(each.call.arguments["n"], each.after.verdict.value, each.after.rule) for each in found] == [
        (2, "ask", "even"),
        (7, "deny", None),
        (9, "modify", "nine"),
        (9, "modify", "nine"),
        (1, "deny", None),
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("rs")), max_size=20))
def test_a_policy_held_against_its_own_decisions_differs_nowhere(calls: list[tuple[int, str]]) -> None:
    own = Policy.of(())
    decided = [logged(n, run, decision=check(ToolCall(name="sql", arguments={"n": n}), own)) for n, run in calls]
    assert list(replay(decided, own)) == []


def test_limits_are_counted_over_runs_spans_and_what_would_have_been_permitted(tmp_path: Path) -> None:
    limited = '[[rule]]\ntools = ["sql"]\nverdict = "allow"\nwhere = { n = { max = 5 } }\n'
    per_run = policy(tmp_path, f"{limited}calls_per_run = 2\n")
    calls = [logged(n, run) for n, run in ((1, "r"), (7, "r"), (2, "r"), (1, "s"), (3, "r"), (4, "s"))]
    assert [(each.run_id, each.call.arguments["n"]) for each in replay(calls, per_run)] == [("r", 7), ("r", 3)]
    per_minute = policy(tmp_path, f"{limited}calls_per_minute = 2\n")
    calls = [logged(1, str(at), at=float(at), purpose=purpose) for at in (0, 20, 40, 60, 79) for purpose in ("work",)]
    calls.insert(3, logged(1, "x", at=45.0, purpose="rollout"))
    assert [each.run_id for each in replay(calls, per_minute)] == ["40", "79"]


def test_a_replay_counts_as_check_is_told(tmp_path: Path) -> None:
    limited = policy(tmp_path, '[[rule]]\ntools = ["sql"]\nverdict = "allow"\ncalls_per_hour = 1\n')
    found = list(replay([logged(1), logged(2, at=5.0)], limited))
    assert [each.after for each in found] == [check(logged(2).call, limited, Circumstances(last_hour={"sql": 1}))]
