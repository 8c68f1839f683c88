"""What a policy does to the calls of a run: it changes and limits them, looks in shadow mode, and grants by purpose."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.run_makers import Answers, calls, notes, runner, task

from koboshi_policies import Answer, Policy, PolicyLayer, Verdict
from koboshi_runtime.records import CallRecord, Purpose
from koboshi_runtime.runner import Runner
from koboshi_runtime.store import Store
from koboshi_runtime.store.calls import logged_calls, shadowed_calls
from koboshi_runtime.traces.view import run_lines
from koboshi_tools import Transport

ALLOW = '[[rule]]\nname = "all"\ntools = ["*"]\nverdict = "allow"\n'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def made(folder: Path, store: Store, replies: list[str], rules: str, shadow: str = "", **settings: Any) -> Runner:
    """Return a runner under these rules alone."""
    found = runner(folder, store, replies, **settings)
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "a.toml").write_text(rules, encoding="utf-8")
    if shadow:
        (policies / "b.toml").write_text(f'mode = "shadow"\n{shadow}', encoding="utf-8")
    found.policy = Policy.load([PolicyLayer("project", policies)])
    return found


def records(store: Store, found: Runner, **fields: Any) -> list[CallRecord]:
    """Run one task and return the record of its calls, as it is stored."""
    return list(store.trajectory(asyncio.run(found.run(task(**fields))).run_id).calls)


def verdicts(found: list[CallRecord]) -> list[str]:
    return [record.intent.decision.verdict.value for record in found]


def test_a_modified_call_is_made_as_the_rule_changed_it_and_recorded_with_both(tmp_path: Path, store: Store) -> None:
    change = '[[rule]]\nname = "tidy"\ntools = ["note"]\nverdict = "modify"\nset = { text = "tidy" }\n'
    found = made(tmp_path, store, [calls(("note", {"text": "raw"})), "done"], ALLOW + change)
    (record,) = records(store, found)
    assert notes(tmp_path) == ["tidy"]
    assert record.intent.call.arguments == {"text": "raw"}
    assert (record.intent.decision.verdict, record.intent.decision.rule) == (Verdict.MODIFY, "tidy")
    assert record.intent.made.arguments == {"text": "tidy"}
    assert 'made with {"text":"tidy"}' in "\n".join(run_lines(store.trajectory(store.runs()[0].run_id)))


def test_a_person_is_asked_about_the_changed_call_and_that_one_is_made(tmp_path: Path, store: Store) -> None:
    change = '[[rule]]\ntools = ["note"]\nverdict = "modify"\nset = { text = "tidy" }\n'
    asker = Answers([True])
    rules = ALLOW.replace("allow", "ask") + change
    (record,) = records(store, made(tmp_path, store, [calls(("note", {"text": "raw"})), "done"], rules, asker=asker))
    assert asker.asked[0].made.arguments == {"text": "tidy"}
    assert notes(tmp_path) == ["tidy"]
    assert (record.intent.decision.verdict, record.intent.decision.asked) == (Verdict.MODIFY, Answer.APPROVED)


def test_a_budget_of_calls_holds_within_a_turn_and_over_turns_and_begins_anew_with_a_run(
    tmp_path: Path, store: Store
) -> None:
    rules = ALLOW + '[[rule]]\nname = "few"\ntools = ["look", "note"]\nverdict = "allow"\ncalls_per_run = 3\n'
    turn = calls(("look", {"key": "a"}), ("note", {"text": "b"}))
    found = made(tmp_path, store, [turn, turn, "done", turn, "done"], rules)
    assert verdicts(records(store, found)) == ["allow", "allow", "allow", "deny"]
    assert verdicts(records(store, found, task_id="u")) == ["allow", "allow"]


def test_a_rate_counts_the_calls_of_other_runs_and_other_processes(tmp_path: Path, store: Store) -> None:
    rules = '[[rule]]\nname = "slow"\ntools = ["look"]\nverdict = "allow"\ncalls_per_hour = 2\n'
    look = calls(("look", {"key": "a"}))
    first = made(tmp_path, store, [look, "done", look, "done", look, "done"], rules)
    assert [verdicts(records(store, first, task_id=str(n))) for n in range(3)] == [["allow"], ["allow"], ["deny"]]
    assert verdicts(records(store, made(tmp_path, store, [look, "done"], rules))) == ["deny"]
    night = made(tmp_path, store, [look, "done"], rules, purpose=Purpose.ROLLOUT)
    assert verdicts(records(store, night)) == ["allow"]


def test_shadow_rules_are_recorded_beside_what_is_done(tmp_path: Path, store: Store) -> None:
    strict = '[[rule]]\nname = "none"\ntools = ["note"]\nverdict = "deny"\nreason = "too early"\n'
    found = made(tmp_path, store, [calls(("note", {"text": "a"}), ("look", {"key": "b"})), "done"], ALLOW, strict)
    note, look = records(store, found)
    assert notes(tmp_path) == ["a"]
    assert note.intent.decision.verdict is Verdict.ALLOW
    assert note.intent.shadow is not None
    assert (note.intent.shadow.verdict, note.intent.shadow.rule) == (Verdict.DENY, "none")
    assert look.intent.shadow is not None
    assert look.intent.shadow.verdict is Verdict.ALLOW
    assert "in shadow: deny by none" in "\n".join(run_lines(store.trajectory(store.runs()[0].run_id)))
    assert [(each.held.verdict, each.shadow.verdict) for each in shadowed_calls(store)] == [
        (Verdict.ALLOW, Verdict.DENY),
        (Verdict.ALLOW, Verdict.ALLOW),
    ]


def test_a_tool_granted_to_the_night_is_offered_to_the_night_only(tmp_path: Path, store: Store) -> None:
    rules = '[[rule]]\ntools = ["look"]\npurposes = ["rollout"]\nverdict = "allow"\n'
    look = calls(("look", {"key": "a"}))
    night = made(tmp_path, store, [look, "done"], rules, purpose=Purpose.ROLLOUT)
    assert verdicts(records(store, night)) == ["allow"]
    assert store.trajectory(store.runs()[0].run_id).header.tools == ("look",)
    asyncio.run(made(tmp_path, store, ["done"], rules).run(task()))
    assert store.trajectory(store.runs()[0].run_id).header.tools == ()


def test_the_log_of_calls_leaves_out_functions_that_nobody_could_execute(tmp_path: Path, store: Store) -> None:
    spec = {"name": "theirs", "description": "", "parameters": {"type": "object", "properties": {}}}
    found = made(tmp_path, store, [calls(("theirs", {})), calls(("look", {"key": "a"})), "done"], ALLOW)
    checker = {"kind": "tool_call", "accept": []}
    (record,) = records(store, found, tool_specs=[spec], checker=checker)
    assert record.result is not None
    assert record.result.transport is Transport.NOT_EXECUTED
    assert verdicts(records(store, found, task_id="u")) == ["allow"]
    assert [logged.call.name for logged in logged_calls(store)] == ["look"]
