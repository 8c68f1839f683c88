"""Gate tasks rotate, were never trained on, and are as many as the proof needs."""

from collections.abc import Sequence

import pytest

from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.tasks import Task
from koboshi_tools import UsageError
from koboshi_trainer.gate.tasks import GateChoice, choose_gate_tasks, granted_tasks, plan_tasks

POOL = [Task(id=f"w-{number}", prompt=f"What is {number} + {number}?", checker=None) for number in range(60)]


def choose(
    needed: int, last_used: dict[str, int] | None = None, trained: tuple[str, ...] = (), pool: Sequence[Task] = POOL
) -> GateChoice:
    hashes = [prompt_hash(prompt) for prompt in trained]
    return choose_gate_tasks(pool, needed, last_used=last_used or {}, trained_prompts=hashes)


def test_choice_depends_on_the_tasks_and_not_on_their_order() -> None:
    assert choose(20).keys == choose(20, pool=POOL[::-1]).keys
    assert [task.id for task in choose(20).tasks] != [task.id for task in POOL[:20]]


def test_tasks_of_a_grant_are_found_again_unless_one_is_gone() -> None:
    chosen = choose(20)
    assert granted_tasks(POOL[::-1], chosen.keys) == chosen.tasks
    assert granted_tasks([task for task in POOL if task != chosen.tasks[3]], chosen.keys) is None
    assert granted_tasks(POOL, ()) is None


def test_tasks_rotate_until_all_were_used() -> None:
    last_used: dict[str, int] = {}
    nights = []
    for night in range(3):
        chosen = choose(20, last_used)
        nights.append(set(chosen.keys))
        last_used |= dict.fromkeys(chosen.keys, night)
    assert len(set.union(*nights)) == 60
    assert set(choose(20, last_used).keys) == nights[0]


def test_trained_prompt_is_left_out_whatever_its_case_and_blanks() -> None:
    chosen = choose(60, trained=("  WHAT is 3 +   3?",))
    assert "w-3" not in {task.id for task in chosen.tasks}
    assert (len(chosen.tasks), chosen.trained, chosen.more_tasks) == (59, 1, 1)


def test_task_that_asks_the_same_is_used_once() -> None:
    twin = Task(id="twin", prompt="what is 3 + 3?", checker=None)
    chosen = choose(100, pool=[*POOL, twin])
    assert (len(chosen.tasks), chosen.repeated) == (60, 1)
    assert "twin" not in {task.id for task in chosen.tasks}


def test_keys_belong_to_the_tasks_beside_them() -> None:
    chosen = choose(5)
    assert [prompt_hash(task.prompt)[7:31] for task in chosen.tasks] == list(chosen.keys)


def test_smaller_alpha_wants_more_tasks() -> None:
    assert 300 < plan_tasks(0.008) < plan_tasks(0.0008) < 700


def test_spent_budget_cannot_be_planned_for() -> None:
    with pytest.raises(UsageError, match="alpha 0"):
        plan_tasks(0.0)
