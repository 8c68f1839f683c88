"""A recorded run played again: recorded results answer, reading is done anew, and nothing else happens."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.runtime.run_makers import TOOLS, calls, notes, policy, runner, task

from koboshi_runtime.project import Project
from koboshi_runtime.records import EndReason, Trajectory
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.session import Session
from koboshi_runtime.store import Store
from koboshi_runtime.traces.diff import compare
from koboshi_runtime.traces.replay import AnsweredBy, Replay, replay

LOOK, NOTE = calls(("look", {"key": "a"})), calls(("note", {"text": "one"}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def ran(store: Store, folder: Path, replies: Sequence[str]) -> Trajectory:
    result = asyncio.run(runner(folder, store, replies).run(task()))
    return store.trajectory(result.run_id)


def replayed(recorded: Trajectory, store: Store, folder: Path, replies: Sequence[str]) -> Replay:
    """Play `recorded` on a model that says `replies`, and see that it leaves nothing behind."""
    project = Project(name="marks", root=folder, system_prompt="Another.")
    session = Session(project, policy(folder), TOOLS, store, ScriptedModel(replies))
    before = (notes(folder), store.runs())
    found = asyncio.run(replay(recorded, session))
    assert (notes(folder), store.runs()) == before
    return found


def by(found: Replay) -> list[AnsweredBy]:
    return [each.by for each in found.answered]


def test_the_same_replies_give_the_same_run_and_no_second_effect(store: Store, tmp_path: Path) -> None:
    recorded = ran(store, tmp_path, [LOOK, NOTE, "done"])
    found = replayed(recorded, store, tmp_path, [LOOK, NOTE, "done"])
    assert by(found) == [AnsweredBy.RECORD, AnsweredBy.RECORD]
    assert compare(recorded, found.trajectory).same
    assert found.trajectory.outcome == "success"


def test_a_recorded_result_holds_even_where_the_tool_would_say_otherwise_now(store: Store, tmp_path: Path) -> None:
    recorded = ran(store, tmp_path, [LOOK, "done"])
    (call,) = recorded.calls
    assert call.result is not None
    then = call.model_copy(update={"result": call.result.model_copy(update={"output": "value of long ago"})})
    found = replayed(recorded.model_copy(update={"calls": (then,)}), store, tmp_path, [LOOK, "done"])
    assert [each.result and each.result.output for each in found.trajectory.calls] == ["value of long ago"]


def test_results_of_the_same_call_come_in_their_order(store: Store, tmp_path: Path) -> None:
    recorded = ran(store, tmp_path, [LOOK, LOOK, "done"])
    said = [
        call.model_copy(update={"result": call.result.model_copy(update={"output": f"{number}"})})
        for number, call in enumerate(recorded.calls)
        if call.result
    ]
    found = replayed(recorded.model_copy(update={"calls": tuple(said)}), store, tmp_path, [LOOK, LOOK, LOOK, "done"])
    assert [each.result and each.result.output for each in found.trajectory.calls] == ["0", "1", "1"]


def test_a_call_that_was_not_recorded_is_made_if_it_only_reads(store: Store, tmp_path: Path) -> None:
    recorded = ran(store, tmp_path, [LOOK, "done"])
    found = replayed(recorded, store, tmp_path, [calls(("look", {"key": "b"})), "done"])
    assert by(found) == [AnsweredBy.READING]
    assert [each.result and each.result.output for each in found.trajectory.calls] == ["value of b"]


@pytest.mark.parametrize(
    "call",
    [NOTE, calls(("fetch", {"url": "x"})), calls(("ask_note", {"text": "x"})), calls(("ask_look", {"key": "x"}))],
)
def test_any_other_call_ends_the_replay_and_is_named(store: Store, tmp_path: Path, call: str) -> None:
    recorded = ran(store, tmp_path, [LOOK, "done"])
    found = replayed(recorded, store, tmp_path, [LOOK, call])
    assert by(found) == [AnsweredBy.RECORD, AnsweredBy.NOTHING]
    assert found.unanswered[0].step == 1
    assert found.trajectory.end is not None
    assert found.trajectory.end.reason is EndReason.NOT_REPLAYABLE
    assert found.trajectory.outcome == "unknown"


def test_todays_rules_answer_what_they_deny(store: Store, tmp_path: Path) -> None:
    recorded = ran(store, tmp_path, ["done"])
    found = replayed(recorded, store, tmp_path, [calls(("banned", {"text": "x"})), "done"])
    assert by(found) == [AnsweredBy.POLICY]
    assert found.trajectory.outcome == "success"


def test_the_model_is_told_what_it_was_told_then(store: Store, tmp_path: Path) -> None:
    recorded = ran(store, tmp_path, ["done"])
    found = replayed(recorded, store, tmp_path, ["done"])
    assert [turn.segments for turn in found.trajectory.turns] == [turn.segments for turn in recorded.turns]
