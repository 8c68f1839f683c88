"""Canaries are tasks of the contract, and every failure class can be named to a model."""

import json

import pytest

from koboshi_runtime.prompt import CONDITIONS, FAILURE, SUCCESS
from koboshi_runtime.tasks import offered_tools, parse_task
from koboshi_tools import UsageError
from koboshi_trainer.canaries import canaries
from koboshi_trainer.quality import FailureClass


@pytest.mark.parametrize("kind", ["no-call", "forbidden"])
def test_canaries_are_tasks_that_a_file_can_hold_and_none_asks_twice(kind: str) -> None:
    tasks = canaries(kind, 0)
    assert len({task.prompt for task in tasks}) == len({task.id for task in tasks}) == len(tasks) >= 150
    assert [parse_task(json.dumps(task.as_json())) for task in tasks] == tasks


def test_seed_draws_the_order() -> None:
    first, again, other = (canaries("forbidden", seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert {task.prompt for task in first} == {task.prompt for task in other}


def test_missing_tool_is_not_among_those_offered() -> None:
    for task in canaries("forbidden", 0):
        offered = {spec.name for spec in offered_tools(task, ()).specs}
        assert offered
        assert task.meta["missing"] not in offered


def test_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        canaries("birds", 0)
    assert "no-call, forbidden" in str(refused.value.hint)


@pytest.mark.parametrize("name", sorted(CONDITIONS))
def test_each_set_has_a_sentence_of_its_own_for_each_failure_class(name: str) -> None:
    sentences = CONDITIONS[name]
    assert set(sentences) == {SUCCESS, FAILURE, *FailureClass}
    assert len(set(sentences.values())) == len(sentences)


def test_sentences_of_success_and_failure_part_at_the_first_word() -> None:
    found = CONDITIONS["sentences"]
    right = set(found[SUCCESS].split()[:1])
    assert all(right.isdisjoint(found[name].split()[:1]) for name in found if name != SUCCESS)
