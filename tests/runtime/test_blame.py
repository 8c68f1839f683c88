"""Forks say again what was said, on a copy, and find the step from which a failed run could not be saved."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.runtime.run_makers import TOOLS, calls, notes, runner, task

from koboshi_runtime.dialogue import Dialogue
from koboshi_runtime.forks import Fork
from koboshi_runtime.home import open_home
from koboshi_runtime.house.forget import forget
from koboshi_runtime.model import GenerateRequest
from koboshi_runtime.records import EndReason, Purpose, Trajectory
from koboshi_runtime.runner import Runner
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import RunFilter, Store
from koboshi_runtime.traces.blame import Blame, blame_of, find_blame, next_place, was_solved
from koboshi_runtime.traces.view import run_lines
from koboshi_tools import UsageError, tool

LOOK, BAD, GOOD = (
    calls(("look", {"key": "a"})),
    calls(("note", {"text": "bad"})),
    calls(("note", {"text": "good"})),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def ran(store: Store, folder: Path, replies: Sequence[str], **fields: object) -> Trajectory:
    """Make a run of real work."""
    result = asyncio.run(runner(folder, store, list(replies)).run(task(**fields)))  # type: ignore[arg-type]
    return store.trajectory(result.run_id)


def hopeful(request: GenerateRequest) -> str:
    """Look, note and answer well, unless something bad was noted."""
    read = bytes(token for token in request.prompt_ids if token < 256).decode()
    if "noted bad" in read:
        return "wrong"
    if "noted good" in read:
        return "done"
    return GOOD if "value of" in read else LOOK


def rolling(folder: Path, store: Store, plays: Callable[[GenerateRequest], str]) -> tuple[Runner, ScriptedModel]:
    model = ScriptedModel(plays)
    return runner(folder, store, model, purpose=Purpose.ROLLOUT, temperature=0.8), model


def blamed(made: Runner, failed: Trajectory, **wanted: object) -> Blame:
    return asyncio.run(find_blame(made, failed, **{"samples": 2, **wanted}))  # type: ignore[arg-type]


def test_the_step_is_found_from_which_nothing_succeeds_any_more(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, BAD, "wrong"])
    before = notes(tmp_path)
    made, _ = rolling(tmp_path, store, hopeful)
    found = blamed(made, failed)
    assert (found.first_bad, found.steps, found.hopeless) == (1, 3, False)
    assert [(each.turns, each.runs, each.successes) for each in found.tallies] == [(0, 2, 2), (1, 2, 2), (2, 2, 0)]
    assert notes(tmp_path) == before == ["bad"]


def test_forks_say_again_what_was_said_and_name_where_they_come_from(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, BAD, "wrong"])
    blamed(rolling(tmp_path, store, hopeful)[0], failed)
    forks = [store.trajectory(row.run_id) for row in store.runs(RunFilter(fork_of=failed.run_id))]
    assert len(forks) == 6
    for fork in forks:
        at = fork.header.forked_at
        assert at is not None
        assert [turn.reply.ids for turn in fork.turns[:at]] == [turn.reply.ids for turn in failed.turns[:at]]
        assert (fork.header.purpose, fork.header.split) == (Purpose.ROLLOUT, failed.header.split)
    assert len({(fork.header.seed, fork.header.sample) for fork in forks}) == 6
    assert f"  forked from {failed.run_id} behind 2 turns" in run_lines(forks[0])


def test_what_is_stored_is_not_forked_again(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, BAD, "wrong"])
    first = blamed(rolling(tmp_path, store, hopeful)[0], failed)
    again, model = rolling(tmp_path, store, hopeful)
    assert blamed(again, failed) == first
    assert model.requests == []
    more = blamed(again, failed, samples=3)
    assert [each.runs for each in more.tallies] == [3, 3, 3]


def test_where_the_task_was_solved_its_beginning_is_not_tried(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, "wrong"])
    assert not was_solved(store, failed)
    ran(store, tmp_path, [LOOK, "done"])
    assert was_solved(store, failed)
    found = blamed(rolling(tmp_path, store, lambda _: "done")[0], failed, solved=True)
    assert (found.first_bad, [each.turns for each in found.tallies]) == (1, [1])


def test_a_task_that_no_fork_solves_blames_no_step(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, "wrong"])
    found = blamed(rolling(tmp_path, store, lambda _: "wrong")[0], failed)
    assert (found.first_bad, found.hopeless) == (None, True)
    assert [(each.turns, each.successes) for each in found.tallies] == [(0, 0)]


@pytest.mark.parametrize("bad", range(8))
def test_halving_finds_each_step_in_few_places(bad: int) -> None:
    steps = 8
    found = Blame(run_id="r", steps=steps, solved=True, tallies=(), first_bad=None)
    failed, tried = _failed(steps), []
    while (place := next_place(found)) is not None:
        tried.append(place)
        forks = [_fork(turns, solved=turns <= bad) for turns in tried]
        found = blame_of(failed, forks, solved=True)
    assert found.first_bad == bad
    assert len(tried) == 3


def _failed(steps: int) -> Trajectory:
    from tests.runtime.trace_samples import trajectory

    made = trajectory()
    return made.model_copy(update={"run_id": "r", "turns": made.turns[:1] * steps})


def _fork(place: int, *, solved: bool) -> Trajectory:
    from tests.runtime.store_samples import label

    from koboshi_runtime.records import OutcomeLabel

    made = _failed(8)
    verdict = label(OutcomeLabel.SUCCESS if solved else OutcomeLabel.FAILURE)
    header = made.header.model_copy(update={"forked_at": place, "parent_run_id": "r"})
    return made.model_copy(update={"header": header, "outcomes": (verdict,)})


def test_a_world_that_answers_otherwise_now_is_named(store: Store, tmp_path: Path) -> None:
    @tool
    def look(key: str) -> str:
        """Look something up."""
        return f"another value of {key}"

    failed = ran(store, tmp_path, [LOOK, LOOK, "wrong"])
    model = ScriptedModel(hopeful)
    other = runner(tmp_path, store, model, tools={**TOOLS, "look": look}, purpose=Purpose.ROLLOUT, temperature=0.8)
    with pytest.raises(UsageError, match="step 1 is told something else now .*: a tool answers otherwise"):
        blamed(other, failed, solved=True)


def test_another_prompt_is_named(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, "wrong"])
    made, _ = rolling(tmp_path, store, hopeful)
    changed = replace(made, project=replace(made.project, system_prompt="Act otherwise."))
    with pytest.raises(UsageError, match="step 0 .*: the system prompt, the tools or the model's manner"):
        blamed(changed, failed, solved=True)


def test_what_cannot_be_blamed_says_why(store: Store, tmp_path: Path) -> None:
    made, _ = rolling(tmp_path, store, hopeful)
    with pytest.raises(UsageError, match="is no failure: its outcome is success"):
        blamed(made, ran(store, tmp_path, ["done"]))
    failed = ran(store, tmp_path, [LOOK, "wrong"])
    unchecked = failed.model_copy(update={"header": failed.header.model_copy(update={"task": None})})
    with pytest.raises(UsageError, match="no checker to judge its forks by"):
        blamed(made, unchecked)
    with pytest.raises(UsageError, match="held a secret"):
        Fork(failed.model_copy(update={"redacted": True}), 1)
    with pytest.raises(UsageError, match="has 2 turns, not 3"):
        Fork(failed, 3)
    talk = failed.model_copy(update={"header": failed.header.model_copy(update={"parent_run_id": "other"})})
    with pytest.raises(UsageError, match="goes on with a conversation"):
        Fork(talk, 1)


def test_a_fork_that_cannot_be_said_again_ends_as_a_model_error(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, "wrong"])
    made, _ = rolling(tmp_path, store, hopeful)
    result = asyncio.run(made.run(task(prompt="Do something else."), fork=Fork(failed, 1)))
    assert (result.reason, result.outcome) == (EndReason.MODEL_ERROR, "unknown")


def test_a_conversation_behind_a_fork_does_not_go_back_to_what_was_forked(store: Store, tmp_path: Path) -> None:
    failed = ran(store, tmp_path, [LOOK, "wrong"])
    made, _ = rolling(tmp_path, store, hopeful)
    fork = asyncio.run(made.run(task(), fork=Fork(failed, 1)))
    other = ScriptedModel(["hello"])
    other.info = other.info.model_copy(update={"model_hash": "sha256:other"})
    dialogue = Dialogue(run_id=fork.run_id, model_hash="sha256:scripted")
    dialogue.said = store.trajectory(fork.run_id).turns[0].segments[0]
    talked = asyncio.run(runner(tmp_path, store, other).run(task("next"), dialogue=dialogue))
    told = store.trajectory(talked.run_id).turns[0].segments[0].text
    assert told.count("Do t.") == 1


def test_forgetting_a_run_forgets_its_forks(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    store = Store.open(home.traces)
    failed, kept = (ran(store, tmp_path, [LOOK, BAD, "wrong"], task_id=name) for name in ("t", "u"))
    blamed(rolling(tmp_path, store, hopeful)[0], failed)
    gone = forget(home, store, failed.run_id, who="me")
    assert len(gone.forks) == 6
    left = Store.open(home.traces)
    assert [row.run_id for row in left.runs()] == [kept.run_id]
