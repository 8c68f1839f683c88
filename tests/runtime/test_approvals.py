"""Approvals: bound to one call under one policy, expiring, used once, answered from anywhere; unattended is refused."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.run_makers import calls, notes, runner, task

from koboshi_policies import Answer, Verdict
from koboshi_runtime.approvals import (
    Approval,
    answer_approval,
    approvals,
    call_hash,
    find_approval,
    put_question,
    take_approval,
    wait_for_answer,
)
from koboshi_runtime.cli.approvals import approvals as command
from koboshi_runtime.cli.terminal import AttendedAsker
from koboshi_runtime.records import CallIntent, EndReason, OutcomeLabel
from koboshi_runtime.runner import RunResult
from koboshi_runtime.store import Store, StoreRuleError
from koboshi_tools import ToolCall, UsageError

ASK = calls(("ask_note", {"text": "x"}))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("KOBOSHI_HOME", str(home))
    return Store.open(home / "traces.db")


def carry(folder: Path, store: Store, reply: str = ASK) -> RunResult:
    """Run a task in which the model makes a call that is asked for, with nobody there."""
    return asyncio.run(runner(folder, store, [reply, "done"]).run(task()))


def intent(store: Store, run_id: str) -> CallIntent:
    return store.trajectory(run_id).calls[0].intent


def koboshi(*arguments: str) -> str:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False).stdout


def age(store: Store) -> None:
    """Let every question have been put long ago."""
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE approvals SET expires_at = '2020-01-01T00:00:00.000+00:00'")


def test_an_unattended_ask_is_refused_at_once_listed_and_allowed_once_after_a_grant(
    tmp_path: Path, store: Store
) -> None:
    first = carry(tmp_path, store)
    assert (first.reason, notes(tmp_path)) == (EndReason.ANSWER, [])
    assert (first.unattended, intent(store, first.run_id).decision.asked) == (1, Answer.UNATTENDED)
    (listed,) = json.loads(koboshi("list", "--json"))
    assert (listed["state"], listed["call"]["arguments"], listed["run_id"]) == (
        "unattended",
        {"text": "x"},
        first.run_id,
    )
    assert "approved: ask_note" in koboshi("grant", listed["approval_id"][:6], "--why", "fine")
    second = carry(tmp_path, store)
    assert (notes(tmp_path), intent(store, second.run_id).decision.asked) == (["x"], Answer.APPROVED)
    carry(tmp_path, store)
    assert notes(tmp_path) == ["x"]


def test_the_same_unattended_call_is_listed_once(tmp_path: Path, store: Store) -> None:
    for _ in range(3):
        carry(tmp_path, store)
    carry(tmp_path, store, calls(("ask_note", {"text": "y"})))
    assert [each.call.arguments["text"] for each in approvals(store)] == ["y", "x"]


def test_a_refused_call_stays_refused(tmp_path: Path, store: Store) -> None:
    carry(tmp_path, store)
    koboshi("refuse", approvals(store)[0].approval_id)
    carry(tmp_path, store)
    assert notes(tmp_path) == []


def test_an_approval_ends_with_its_time(tmp_path: Path, store: Store) -> None:
    carry(tmp_path, store)
    (asked,) = approvals(store)
    answer_approval(store, asked.approval_id, Answer.APPROVED, who="me")
    age(store)
    carry(tmp_path, store)
    assert notes(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda intent: intent.model_copy(update={"tool_version": "2"}),
        lambda intent: intent.model_copy(update={"tool_digest": "sha256:other"}),
        lambda intent: intent.model_copy(update={"call": ToolCall(name="ask_note", arguments={"text": "z"})}),
        lambda intent: intent.model_copy(
            update={"decision": intent.decision.model_copy(update={"arguments": {"text": "z"}})}
        ),
    ],
    ids=["version", "code", "arguments", "changed arguments"],
)
def test_an_approval_is_worth_nothing_for_another_call(
    tmp_path: Path, store: Store, change: Callable[[CallIntent], CallIntent]
) -> None:
    found = intent(store, carry(tmp_path, store).run_id)
    (asked,) = approvals(store)
    answer_approval(store, asked.approval_id, Answer.APPROVED, who="me")
    other = change(found).model_copy(update={"idempotency_key": "other/0/0"})
    assert not take_approval(store, other, asked.policy_hash)
    assert not take_approval(store, found, "sha256:another-policy")
    assert take_approval(store, found, asked.policy_hash)


def test_the_hash_of_a_call_names_what_the_approval_is_bound_to(tmp_path: Path, store: Store) -> None:
    found = intent(store, carry(tmp_path, store).run_id)
    assert call_hash(found, "p") == call_hash(found.model_copy(update={"idempotency_key": "k"}), "p")
    assert len({call_hash(found, policy) for policy in "pqr"}) == 3


def test_a_question_is_answered_once_and_not_after_its_time(tmp_path: Path, store: Store) -> None:
    carry(tmp_path, store)
    (asked,) = approvals(store)
    koboshi("refuse", asked.approval_id)
    with pytest.raises(UsageError, match="is refused and cannot be answered"):
        koboshi("grant", asked.approval_id)
    carry(tmp_path, store, calls(("ask_note", {"text": "late"})))
    age(store)
    late = approvals(store, answered=True)[0]
    with pytest.raises(StoreRuleError):
        answer_approval(store, late.approval_id, Answer.APPROVED, who="me")
    assert (approvals(store), "expired" in koboshi("list", "--all")) == ([], True)


def test_an_unknown_question_is_wrong_usage(store: Store) -> None:
    with pytest.raises(UsageError, match="no question begins with 'zz'"):
        koboshi("grant", "zz")


async def waiting(store: Store, answer: Callable[[Approval], None]) -> Answer:
    """Put an attended question of a stored run, answer it while it is waited for, and return what became of it."""
    run_id = store.runs()[0].run_id
    asked = intent(store, run_id).model_copy(update={"idempotency_key": "waits/0/0"})
    question = await put_question(store, run_id, asked, "sha256:policy")
    assert (await put_question(store, run_id, asked, "sha256:policy")).approval_id == question.approval_id
    waiter = asyncio.create_task(wait_for_answer(store, question, asked.idempotency_key))
    await asyncio.to_thread(answer, question)
    return await waiter


@pytest.mark.parametrize(
    ("verb", "wanted", "state"), [("grant", Answer.APPROVED, "used"), ("refuse", Answer.REFUSED, "refused")]
)
def test_who_waits_is_answered_from_another_process(
    tmp_path: Path, store: Store, verb: str, wanted: Answer, state: str
) -> None:
    carry(tmp_path, store)
    assert asyncio.run(waiting(store, lambda asked: print(koboshi(verb, asked.approval_id)))) is wanted
    assert find_approval(store, approvals(store, answered=True)[0].approval_id).state("2026") == state


def test_who_waits_is_told_when_nobody_answered_in_time(tmp_path: Path, store: Store) -> None:
    carry(tmp_path, store)
    assert asyncio.run(waiting(store, lambda _: age(store))) is Answer.EXPIRED


def test_an_expired_question_denies_with_its_reason(tmp_path: Path, store: Store) -> None:
    class Slow:
        async def ask(self, run_id: str, intent: CallIntent) -> Answer:
            return Answer.EXPIRED

    result = asyncio.run(runner(tmp_path, store, [ASK, "done"], asker=Slow()).run(task()))
    decision = intent(store, result.run_id).decision
    assert (decision.verdict, decision.asked, decision.reason) == (
        Verdict.DENY,
        Answer.EXPIRED,
        "ask; nobody answered in time",
    )
    assert (result.outcome, notes(tmp_path), approvals(store)) == (OutcomeLabel.SUCCESS, [], [])


def test_a_call_that_is_approved_already_is_not_asked_for_again(tmp_path: Path, store: Store) -> None:
    carry(tmp_path, store)
    answer_approval(store, approvals(store)[0].approval_id, Answer.APPROVED, who="me")

    class Nobody:
        async def ask(self, run_id: str, intent: CallIntent) -> Answer:
            raise AssertionError("nobody is to be asked")

    asyncio.run(runner(tmp_path, store, [ASK, "done"], asker=Nobody()).run(task()))
    assert notes(tmp_path) == ["x"]


def test_a_decision_that_was_asked_for_keeps_its_rule(tmp_path: Path, store: Store) -> None:
    decision = intent(store, carry(tmp_path, store).run_id).decision
    assert (decision.rule, decision.layer) == ("rule-2", "project")


@pytest.mark.parametrize(("typed", "wanted"), [(b"y\n", Answer.APPROVED), (b"\n", Answer.REFUSED)])
def test_an_answer_at_the_terminal_counts_and_is_stored(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, typed: bytes, wanted: Answer
) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setattr("sys.stdin", os.fdopen(theirs, encoding="utf-8"))
    found = intent(store, carry(tmp_path, store).run_id)
    os.write(ours, typed)
    asker = AttendedAsker(store, "sha256:policy")
    assert asyncio.run(asker.ask(store.runs()[0].run_id, found)) is wanted
    kept = approvals(store, answered=True)[0]
    assert (kept.answer, kept.attended) == (wanted, True)
    os.close(ours)


def test_an_answer_from_elsewhere_ends_the_question_at_the_terminal(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setattr("sys.stdin", os.fdopen(theirs, encoding="utf-8"))
    found = intent(store, carry(tmp_path, store).run_id)

    async def asked() -> Answer:
        asking = asyncio.create_task(AttendedAsker(store, "p").ask(store.runs()[0].run_id, found))
        while not (open_now := [each for each in approvals(store) if each.attended]):
            await asyncio.sleep(0)
        answer_approval(store, open_now[0].approval_id, Answer.APPROVED, who="me")
        return await asking

    assert asyncio.run(asked()) is Answer.APPROVED
    assert "approved, not at this terminal" in capsys.readouterr().err
    os.close(ours)
