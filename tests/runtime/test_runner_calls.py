"""What becomes of a call: allowed, denied, asked for, invalid, foreign, not replayable; and what ends a run."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.run_makers import TOOLS, Answers, calls, notes, runner, task

from koboshi_policies import Verdict
from koboshi_runtime.graph import Agent
from koboshi_runtime.project import Budgets
from koboshi_runtime.records import EndReason, OutcomeLabel, Purpose, RunStatus, TurnKind
from koboshi_runtime.runner import Runner, RunResult
from koboshi_runtime.scripted import ScriptedModel, ScriptExhaustedError
from koboshi_runtime.store import Store
from koboshi_runtime.workermodel import ModelError
from koboshi_tools import ToolVerdict, Transport, tool

LOOK = calls(("look", {"key": "a"}))
NOTE = calls(("note", {"text": "one"}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def carry(made: Runner, **fields: Any) -> RunResult:
    return asyncio.run(made.run(task(**fields)))


def prompts(made: Runner) -> list[bytes]:
    """What the model was shown at each turn, special tokens left out."""
    assert isinstance(made.model, ScriptedModel)
    return [bytes(token for token in request.prompt_ids if token < 256) for request in made.model.requests]


def test_allowed_call_is_made_and_its_output_told(tmp_path: Path, store: Store) -> None:
    made = runner(tmp_path, store, [LOOK, "done"])
    result = carry(made)
    (call,) = store.trajectory(result.run_id).calls
    assert call.result is not None
    assert (call.result.transport, call.result.verdict, call.result.output) == (
        Transport.OK,
        ToolVerdict.OK,
        "value of a",
    )
    assert b"value of a" in prompts(made)[1]
    assert (result.outcome, result.reason) == (OutcomeLabel.SUCCESS, EndReason.ANSWER)


def test_denied_call_never_reaches_the_tool_and_its_reason_is_told(tmp_path: Path, store: Store) -> None:
    made = runner(tmp_path, store, [calls(("banned", {"text": "x"})), "done"])
    (call,) = store.trajectory(carry(made).run_id).calls
    assert call.result is not None
    assert (call.intent.decision.verdict, call.result.transport) == (Verdict.DENY, Transport.DENIED)
    assert notes(tmp_path) == []
    assert b"Denied: deny" in prompts(made)[1]


@pytest.mark.parametrize(("answer", "made_lines"), [(True, ["x"]), (False, [])])
def test_call_to_be_asked_for_is_made_only_if_a_person_says_yes(
    tmp_path: Path, store: Store, answer: bool, made_lines: list[str]
) -> None:
    asker = Answers([answer])
    result = carry(runner(tmp_path, store, [calls(("ask_note", {"text": "x"})), "done"], asker=asker))
    (call,) = store.trajectory(result.run_id).calls
    assert [intent.call for intent in asker.asked] == [call.intent.call]
    assert call.intent.decision.verdict is (Verdict.ALLOW if answer else Verdict.DENY)
    assert notes(tmp_path) == made_lines


def test_call_to_be_asked_for_is_denied_where_nobody_attends(tmp_path: Path, store: Store) -> None:
    result = carry(runner(tmp_path, store, [calls(("ask_note", {"text": "x"})), "done"]))
    (call,) = store.trajectory(result.run_id).calls
    assert "nobody is attending" in call.intent.decision.reason
    assert notes(tmp_path) == []


def test_each_call_of_a_turn_is_asked_for_once_and_gets_its_own_answer(tmp_path: Path, store: Store) -> None:
    asker = Answers([True, False, True, True])
    turn = calls(*(("ask_note", {"text": text}) for text in "abcd"))
    carry(runner(tmp_path, store, [turn, "done"], asker=asker))
    assert [intent.call.arguments["text"] for intent in asker.asked] == ["a", "b", "c", "d"]
    assert notes(tmp_path) == ["a", "c", "d"]


@pytest.mark.parametrize(
    "bad",
    ['<tool_call>\n{"name": "look", BROKEN}\n</tool_call>', calls(("look", {"BROKEN": 1}))],
    ids=["json", "schema"],
)
def test_invalid_reply_is_a_typed_row_and_its_text_never_enters_a_prompt(
    tmp_path: Path, store: Store, bad: str
) -> None:
    made = runner(tmp_path, store, [bad, LOOK, "done"])
    result = carry(made)
    turn = store.trajectory(result.run_id).turns[0]
    assert (turn.kind, turn.in_context, turn.reply.text) == (TurnKind.INVALID, False, bad)
    assert turn.error is not None
    assert all(bad.encode() not in prompt for prompt in prompts(made))
    assert turn.error.encode() in prompts(made)[1]
    assert (result.invalid_calls, result.calls_begun) == (1, 2)


def test_third_equal_call_with_an_equal_result_ends_the_run(tmp_path: Path, store: Store) -> None:
    result = carry(runner(tmp_path, store, [LOOK] * 5))
    assert (result.reason, result.steps) == (EndReason.LOOP, 3)
    assert len(store.trajectory(result.run_id).calls) == 3


def test_calls_that_differ_are_no_loop(tmp_path: Path, store: Store) -> None:
    result = carry(runner(tmp_path, store, [*(calls(("look", {"key": key})) for key in "abcd"), "done"]))
    assert result.reason is EndReason.ANSWER


@pytest.mark.parametrize(
    ("budgets", "reason", "steps"),
    [
        (Budgets(max_steps=2), EndReason.STEP_BUDGET, 2),
        (Budgets(max_calls=1), EndReason.CALL_BUDGET, 1),
        (Budgets(max_tokens=5), EndReason.TOKEN_BUDGET, 1),
        (Budgets(max_seconds=1e-9), EndReason.TIME_BUDGET, 0),
    ],
)
def test_spent_budget_ends_the_run(
    tmp_path: Path, store: Store, budgets: Budgets, reason: EndReason, steps: int
) -> None:
    replies = [calls(("look", {"key": key})) for key in "abcd"]
    result = carry(runner(tmp_path, store, replies, budgets=budgets))
    assert (result.reason, result.steps) == (reason, steps)
    end = store.trajectory(result.run_id).end
    assert end is not None
    assert (end.reason, end.status) == (reason, RunStatus.FINISHED)


def test_rollout_has_no_clock(tmp_path: Path, store: Store) -> None:
    made = runner(tmp_path, store, ["done"], budgets=Budgets(max_seconds=1e-9), purpose=Purpose.ROLLOUT)
    assert carry(made).reason is EndReason.ANSWER


def test_prompt_that_fills_the_context_ends_the_run(tmp_path: Path, store: Store) -> None:
    model = ScriptedModel(["done"], info=ScriptedModel([]).info.model_copy(update={"context_tokens": 10}))
    assert carry(runner(tmp_path, store, model)).reason is EndReason.CONTEXT_FULL


def test_function_of_a_task_is_recorded_never_executed_and_ends_the_run(tmp_path: Path, store: Store) -> None:
    spec = {"name": "note", "description": "Not ours.", "parameters": {"type": "object", "properties": {}}}
    checker = {"kind": "tool_call", "accept": [{"name": "note", "arguments": {}}]}
    made = runner(tmp_path, store, [calls(("note", {}), ("note", {})), "never"])
    result = carry(made, tool_specs=[spec], checker=checker)
    found = store.trajectory(result.run_id).calls
    assert [call.result and call.result.transport for call in found] == [Transport.NOT_EXECUTED] * 2
    assert (result.reason, result.steps, notes(tmp_path)) == (EndReason.NOT_EXECUTED, 1, [])


def test_net_call_outside_real_work_is_not_replayable_and_not_judged(tmp_path: Path, store: Store) -> None:
    replies = [calls(("fetch", {"url": "u"})), "done"]
    result = carry(runner(tmp_path, store, replies, purpose=Purpose.EVAL))
    assert (result.reason, result.outcome) == (EndReason.NOT_REPLAYABLE, OutcomeLabel.UNKNOWN)


def test_rollout_writes_into_a_scratch_copy_that_goes_with_it(tmp_path: Path, store: Store) -> None:
    result = carry(runner(tmp_path, store, [NOTE, "done"], purpose=Purpose.ROLLOUT))
    assert result.tools == {"note": 1}
    assert notes(tmp_path) == []


def test_calls_of_one_turn_keep_their_order_whatever_their_effect(tmp_path: Path, store: Store) -> None:
    turn = calls(("note", {"text": "1"}), ("look", {"key": "k"}), ("note", {"text": "2"}))
    made = runner(tmp_path, store, [turn, "done"])
    result = carry(made)
    outputs = [call.result.output for call in store.trajectory(result.run_id).calls if call.result]
    assert outputs == ["noted 1", "value of k", "noted 2"]
    told = prompts(made)[1]
    assert told.index(b"noted 1") < told.index(b"value of k") < told.index(b"noted 2")
    assert notes(tmp_path) == ["1", "2"]


def test_intents_are_on_disk_before_their_effect(tmp_path: Path, store: Store) -> None:
    seen: list[list[str]] = []

    @tool(effect="write", name="note", sandbox=False)
    def spy(text: str) -> str:
        """Look into the store while the call is made."""
        (row,) = Store.read_only(store.path).runs()
        seen.append([intent.idempotency_key for intent in store.in_doubt(row.run_id)])
        return "done"

    turn = calls(("note", {"text": "a"}), ("note", {"text": "b"}))
    result = carry(runner(tmp_path, store, [turn, "done"], tools=TOOLS | {"note": spy}))
    assert seen == [[f"{result.run_id}/0/0", f"{result.run_id}/0/1"], [f"{result.run_id}/0/1"]]


def test_model_that_is_lost_fails_the_run_visibly(tmp_path: Path, store: Store) -> None:
    class Lost(ScriptedModel):
        async def generate(self, request: Any) -> Any:
            raise ModelError("the worker died")

    result = carry(runner(tmp_path, store, Lost([])))
    assert (result.reason, result.error) == (EndReason.MODEL_ERROR, "the worker died")
    assert result.outcome is OutcomeLabel.UNKNOWN


def test_runs_of_one_loop_are_each_recorded_whole(tmp_path: Path, store: Store) -> None:
    wanted = [task(f"t{number}") for number in range(20)]
    made = runner(tmp_path, store, ["done"] * 40, jobs=8)
    results = asyncio.run(made.run_all(wanted, samples=2))
    assert [(result.task_id, result.sample) for result in results] == [(t.id, s) for t in wanted for s in (0, 1)]
    assert all(store.trajectory(result.run_id).outcome is OutcomeLabel.SUCCESS for result in results)


def test_error_that_stops_all_runs_is_the_one_that_is_raised(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ScriptExhaustedError):
        asyncio.run(runner(tmp_path, store, ["done"], jobs=2).run_all([task("a"), task("b"), task("c")]))


def test_first_turn_is_begun_while_the_graph_is_not_there_yet(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    class Noticed(ScriptedModel):
        async def generate(self, request: Any) -> Any:
            asked.set()
            return await super().generate(request)

    def slow_import() -> Agent:
        assert asked.wait(timeout=30)
        return Agent()

    monkeypatch.setattr("koboshi_runtime.runner._make_agent", slow_import)
    model = Noticed([LOOK, "done"])
    result = carry(runner(tmp_path, store, model))
    assert (result.steps, len(model.requests)) == (2, 2)
    assert [turn.kind for turn in store.trajectory(result.run_id).turns] == [TurnKind.CALL, TurnKind.ANSWER]


def test_turn_that_was_begun_ahead_of_a_graph_that_never_comes_is_stopped(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    class Endless(ScriptedModel):
        async def generate(self, request: Any) -> Any:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.append(request.run_id)
                raise

    def broken_import() -> Agent:
        raise ImportError("no graph")

    monkeypatch.setattr("koboshi_runtime.runner._make_agent", broken_import)

    async def tried() -> list[str]:
        with pytest.raises(ImportError, match="no graph"):
            await runner(tmp_path, store, Endless([])).run(task())
        await asyncio.sleep(0)
        return list(stopped)

    assert len(asyncio.run(tried())) == 1
