"""Forks in a pool: which failures are forked, what their rows learn, and hard negatives."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.run_makers import calls, runner, task
from tests.trainer.trajectory_makers import STOP, reply, segment, trajectory, turn, user_segment

from koboshi_runtime.model import GenerateRequest
from koboshi_runtime.prompt import CONDITIONS, FAILURE, SUCCESS
from koboshi_runtime.records import OutcomeLabel, Purpose, SegmentKind, Trajectory, TurnKind
from koboshi_runtime.runner import Runner
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_runtime.tasks import Task
from koboshi_tools import UsageError
from koboshi_trainer.at_hand import at_hand
from koboshi_trainer.dataset import Dataset, DatasetSettings, build_dataset, first_bad_steps
from koboshi_trainer.duplicates import Caps
from koboshi_trainer.methods import GOOD_STEPS, Assignment, Method, assign
from koboshi_trainer.rollouts import RolloutProgress, roll_out
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.tries import Tries

ALL = DatasetSettings(held_out_share=0.0, caps=Caps(failures_per_success=None, near_duplicate=1.0))
STEPS = Assignment(steps=True)
LOOK, NOTE = calls(("look", {"key": "a"})), calls(("note", {"text": "bad"}))


def failed(run_id: str = "bad") -> Trajectory:
    """A run of two calls and an answer."""
    made = trajectory(run_id, label=OutcomeLabel.FAILURE)
    first, last = made.turns
    second = turn(1, reply(70, 71, STOP), segment(SegmentKind.TOOL, 40))
    answer = turn(2, reply(80, STOP), segment(SegmentKind.TOOL, 41), kind=TurnKind.ANSWER)
    return made.model_copy(update={"turns": (first, second, answer)})


def fork(of: Trajectory, at: int, *, solved: bool, number: int = 0) -> Trajectory:
    label = OutcomeLabel.SUCCESS if solved else OutcomeLabel.FAILURE
    made = trajectory(f"{of.run_id}-{at}-{number}", label=label, answer=(90 + at, 95 + number))
    return made.model_copy(
        update={"header": made.header.model_copy(update={"parent_run_id": of.run_id, "forked_at": at})}
    )


def pool(folder: Path) -> Dataset:
    """A failure that was lost at its second step, with the success and the forks that show it."""
    bad = failed()
    runs = [trajectory("good"), bad, fork(bad, 1, solved=True), fork(bad, 2, solved=False)]
    return build_dataset(runs, user_segment, folder, settings=ALL)


def learnt(row: TokenRow) -> list[int]:
    return [token for token, learn in zip(row.ids, row.learn, strict=True) if learn]


def rows_of(dataset: Dataset, method: Method, assignment: Assignment) -> list[TokenRow]:
    return [row for row in assign(dataset.train, method, assignment) if row.run_id == "bad"]


def test_a_dataset_knows_where_a_failure_was_lost(tmp_path: Path) -> None:
    dataset = pool(tmp_path)
    assert {example.run_id: example.first_bad for example in dataset.train if example.first_bad} == {"bad": 1}
    assert dataset.manifest.counts.blamed == 1


def test_without_a_success_of_its_task_no_step_is_blamed() -> None:
    bad = failed()
    assert first_bad_steps([bad, fork(bad, 1, solved=False)]) == {}
    assert first_bad_steps([trajectory("good"), bad, fork(bad, 1, solved=False)]) == {"bad": 0}


def test_a_failure_is_cut_at_its_first_bad_step(tmp_path: Path) -> None:
    good, bad = rows_of(pool(tmp_path), Method.NAT, STEPS)
    assert (good.condition, good.label, learnt(good)) == ("success", GOOD_STEPS, [50, 51, 52, STOP])
    assert (bad.condition, bad.label, learnt(bad)) == ("failure", "wrong_answer", [70, 71, STOP, 80, STOP])
    assert 70 not in good.ids
    assert 50 in bad.ids


def test_only_the_bad_part_is_contrasted(tmp_path: Path) -> None:
    good, bad = rows_of(pool(tmp_path), Method.NAT, Assignment(steps=True, twins=True))
    assert good.twin is None
    assert bad.twin is not None
    assert (bad.twin.condition, learnt(bad.twin)) == ("success", learnt(bad))


def test_without_steps_a_failure_is_learnt_whole(tmp_path: Path) -> None:
    (whole,) = rows_of(pool(tmp_path), Method.NAT, Assignment())
    assert learnt(whole) == [50, 51, 52, STOP, 70, 71, STOP, 80, STOP]


def test_successes_alone_take_the_good_steps_too(tmp_path: Path) -> None:
    assert rows_of(pool(tmp_path), Method.SUCCESS, Assignment()) == []
    (good,) = rows_of(pool(tmp_path), Method.SUCCESS, STEPS)
    assert (good.condition, learnt(good)) == ("success", [50, 51, 52, STOP])


def test_a_failure_that_was_lost_at_once_has_no_good_steps(tmp_path: Path) -> None:
    bad = failed()
    dataset = build_dataset([trajectory("good"), bad, fork(bad, 1, solved=False)], user_segment, tmp_path, settings=ALL)
    (row,) = rows_of(dataset, Method.NAT, STEPS)
    assert (row.condition, learnt(row)) == ("failure", [50, 51, 52, STOP, 70, 71, STOP, 80, STOP])


class Wavering(ScriptedModel):
    """Solves `sure`, looks and then fails at `lost` half the time, and writes what it is asked for if it knows how."""

    def __init__(self, *, conditions: bool = True) -> None:
        super().__init__(self.write)
        named = "plain" if conditions else None
        profile = self.info.profile.model_copy(update={"conditions": named})
        self.info = self.info.model_copy(update={"profile": profile})
        self.turns: Counter[str] = Counter()

    def write(self, request: GenerateRequest) -> str:
        """Write a turn."""
        read = bytes(token for token in request.prompt_ids if token < 256).decode()
        if CONDITIONS["plain"][FAILURE] in read:
            return "wrong"
        if "Do sure." in read:
            return "done"
        if "value of" not in read:
            return LOOK
        self.turns["answer"] += 1
        return "done" if self.turns["answer"] % 2 else "wrong"


def rolled(
    folder: Path, store: Store, model: Wavering, **wanted: Any
) -> tuple[list[Trajectory], list[tuple[int, int]]]:
    made: Runner = runner(folder, store, model, purpose=Purpose.ROLLOUT, jobs=1)
    seen: list[tuple[int, int]] = []

    def told(progress: RolloutProgress) -> None:
        seen.append((progress.done, progress.wanted))

    tries = Tries(samples=2, temperature=0.8, **wanted)
    run_ids = asyncio.run(roll_out(made, [task("sure"), task("lost")], tries, on_progress=told))
    return [store.trajectory(run_id) for run_id in run_ids], seen


def test_a_failure_of_a_task_that_was_solved_is_forked(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    runs, seen = rolled(tmp_path, store, Wavering(), forks=2)
    own, forks = runs[:4], runs[4:]
    assert [run.outcome for run in own] == ["success", "success", "success", "failure"]
    assert [(run.header.parent_run_id, run.header.forked_at) for run in forks] == [(own[3].run_id, 1)] * 2
    assert seen[-1] == (5, 5)
    again, _ = rolled(tmp_path, store, Wavering(), forks=2)
    assert [run.run_id for run in again] == [run.run_id for run in runs]
    assert first_bad_steps(runs) == {own[3].run_id: 1}


def test_a_failure_that_was_asked_for_is_not_forked(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    runs, _ = rolled(tmp_path, store, Wavering(), hard_negatives=2, forks=2)
    forked = {run.header.parent_run_id for run in runs if run.header.forked_at is not None}
    assert forked == {runs[3].run_id}


def test_what_is_solved_every_time_is_asked_for_a_failure(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    runs, _ = rolled(tmp_path, store, Wavering(), hard_negatives=2)
    assert [(run.header.task_id, run.header.condition, run.outcome) for run in runs[4:]] == [
        ("sure", FAILURE, "failure"),
        ("sure", FAILURE, "failure"),
    ]
    assert {run.header.condition for run in runs[:4]} == {SUCCESS}


def test_a_model_without_conditions_is_not_asked_for_failures(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    with pytest.raises(UsageError, match="was not trained under conditions"):
        rolled(tmp_path, store, Wavering(conditions=False), hard_negatives=1)
    assert store.runs() == []


def told() -> Task:
    """A task whose answer is what `look` says."""
    return task("told", checker={"kind": "exact", "answer": "value of a"})


class Late(ScriptedModel):
    """Looks, looks again and says `wrong`; every second time that it has looked once it says what it was told."""

    def __init__(self) -> None:
        super().__init__(self.write)
        self.seconds = 0

    def write(self, request: GenerateRequest) -> str:
        """Write a turn."""
        looked = bytes(token for token in request.prompt_ids if token < 256).decode().count("value of a")
        if looked != 1:
            return "wrong" if looked else LOOK
        self.seconds += 1
        return LOOK if self.seconds % 2 else "value of a"


def test_a_failure_that_had_its_answer_at_hand_is_gone_on_with_from_there(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    made: Runner = runner(tmp_path, store, Late(), purpose=Purpose.ROLLOUT, jobs=1)
    tries = Tries(samples=1, temperature=0.8, finishes=4)
    runs = [store.trajectory(run_id) for run_id in asyncio.run(roll_out(made, [told(), task("other")], tries))]
    own, forks = runs[:2], runs[2:]
    assert [(run.outcome, at_hand(run)) for run in own] == [("failure", 1), ("failure", None)]
    assert [(run.header.parent_run_id, run.header.forked_at) for run in forks] == [(own[0].run_id, 1)] * 4
    assert Counter(run.outcome for run in forks) == {"success": 2, "failure": 2}
    assert asyncio.run(roll_out(made, [told(), task("other")], tries)) == [run.run_id for run in runs]


def test_a_run_is_not_lost_before_its_answer_was_at_hand(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    made: Runner = runner(tmp_path, store, Late(), purpose=Purpose.ROLLOUT, jobs=1)
    run_ids = asyncio.run(roll_out(made, [told()], Tries(samples=2, temperature=0.8, finishes=1)))
    runs = [store.trajectory(run_id) for run_id in run_ids]
    assert [run.outcome for run in runs] == ["failure", "success", "failure"]
    assert first_bad_steps(runs) == {runs[0].run_id: 1}


def test_runs_are_kept_before_their_forks(tmp_path: Path) -> None:
    bad = failed()
    runs = [fork(bad, 1, solved=True, number=n) for n in range(5)] + [trajectory("good"), bad]
    one = ALL.model_copy(update={"caps": Caps(successes_per_task=1)})
    kept = build_dataset(runs, user_segment, tmp_path, settings=one).train
    assert {example.run_id: example.forked for example in kept} == {"good": False, "bad": False}
    two = ALL.model_copy(update={"caps": Caps(successes_per_task=2)})
    more = build_dataset(runs, user_segment, tmp_path, settings=two).train
    assert sorted(example.forked for example in more) == [False, False, True]
