"""Demonstrations and rollouts: stored as what they are, and never made twice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from koboshi_policies import Policy, PolicyLayer
from koboshi_runtime.checkers import NumberChecker
from koboshi_runtime.packs import Demonstration, DemoTurn, load_pack
from koboshi_runtime.project import Project
from koboshi_runtime.records import OutcomeLabel, Purpose, Split
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.scripted import ScriptedModel, ScriptExhaustedError
from koboshi_runtime.store import RunFilter, Store
from koboshi_runtime.tasks import Task
from koboshi_tools import builtin_tools
from koboshi_trainer.demonstrate import DemonstrationError, play
from koboshi_trainer.rollouts import roll_out
from koboshi_trainer.tries import Tries


def _runner(folder: Path, store: Store, replies: Sequence[str] = ()) -> Runner:
    pack = load_pack("arithmetic")
    policy = Policy.load([PolicyLayer("project", pack.folder / "policies")])
    project = Project(name="sums", root=folder, tools=("calculator",))
    settings = RunSettings(purpose=Purpose.ROLLOUT, jobs=1)
    return Runner(project, policy, dict(builtin_tools()), ScriptedModel(replies), store, settings)


def _count(store: Store) -> int:
    return len(store.runs(RunFilter(limit=None)))


def _tasks(count: int) -> list[Task]:
    return load_pack("arithmetic").generate("train", count, 0)


def test_demonstrations_are_stored_as_solved_rollouts_of_the_train_split(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    run_ids = asyncio.run(play(_runner(tmp_path, store), load_pack("arithmetic").demonstrations(3, 1)))
    for trajectory in map(store.trajectory, run_ids):
        header = trajectory.header
        assert (header.purpose, header.split, header.demonstration) == (Purpose.ROLLOUT, Split.TRAIN, True)
        assert trajectory.outcome is OutcomeLabel.SUCCESS
        assert trajectory.calls


def test_demonstrations_are_played_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    solved = load_pack("arithmetic").demonstrations(3, 1)
    first = asyncio.run(play(_runner(tmp_path, store), solved[:2]))
    again = asyncio.run(play(_runner(tmp_path, store), solved))
    assert again[:2] == first
    assert _count(store) == 3


def test_demonstration_that_fails_its_checker_is_refused_each_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    (solved,) = load_pack("arithmetic").demonstrations(1, 1)
    wrong = Demonstration(task=solved.task, turns=(DemoTurn(text="The answer is -77."),))
    for _ in range(2):
        with pytest.raises(DemonstrationError, match="failure"):
            asyncio.run(play(_runner(tmp_path, store), [wrong]))


def test_rollouts_go_on_where_they_stopped(tmp_path: Path) -> None:
    store, tasks = Store.open(tmp_path / "traces.db"), _tasks(3)
    first = asyncio.run(roll_out(_runner(tmp_path, store, ["1"] * 4), tasks[:2], Tries(samples=2, temperature=0.8)))
    seen: list[int] = []
    runner = _runner(tmp_path, store, ["1"] * 2)
    again = asyncio.run(
        roll_out(runner, tasks, Tries(samples=2, temperature=0.8), on_progress=lambda told: seen.append(told.done))
    )
    assert again[:4] == first
    assert seen == [5, 6]
    assert _count(store) == 6


def test_rollouts_stop_with_the_error_of_the_run_that_failed(tmp_path: Path) -> None:
    store, tasks = Store.open(tmp_path / "traces.db"), _tasks(3)
    with pytest.raises(ScriptExhaustedError, match="the script has 1 replies"):
        asyncio.run(roll_out(_runner(tmp_path, store, ["1"]), tasks, Tries(samples=2, temperature=0.8)))


def test_rollouts_at_another_temperature_are_other_runs(tmp_path: Path) -> None:
    store, tasks = Store.open(tmp_path / "traces.db"), _tasks(1)
    cold = asyncio.run(roll_out(_runner(tmp_path, store, ["1"]), tasks, Tries(samples=1, temperature=0.2)))
    warm = asyncio.run(roll_out(_runner(tmp_path, store, ["1"]), tasks, Tries(samples=1, temperature=0.8)))
    assert set(cold).isdisjoint(warm)


def test_only_tasks_that_nobody_solved_are_tried_again_and_more_freely(tmp_path: Path) -> None:
    store, tasks = Store.open(tmp_path / "traces.db"), _tasks(2)
    checker = tasks[0].checker
    assert isinstance(checker, NumberChecker)
    right = f"The answer is {checker.answer}."
    tries = Tries(samples=1, temperature=0.8, retries=2, retry_temperature=0.9)
    seen: list[tuple[int, int]] = []
    runner = _runner(tmp_path, store, [right, "no", "no", "no"])
    run_ids = asyncio.run(
        roll_out(runner, tasks, tries, on_progress=lambda told: seen.append((told.done, told.wanted)))
    )
    assert seen == [(1, 2), (2, 2), (3, 4), (4, 4)]
    runs = [store.trajectory(run_id).header for run_id in run_ids]
    assert [(run.task_id, run.sample, run.temperature) for run in runs] == [
        (tasks[0].id, 0, 0.8),
        (tasks[1].id, 0, 0.8),
        (tasks[1].id, 1, 0.9),
        (tasks[1].id, 2, 0.9),
    ]
    assert asyncio.run(roll_out(_runner(tmp_path, store, []), tasks, tries)) == run_ids
