"""Tasks out of labelled runs, and adding them to a file."""

from pathlib import Path

import pytest

from koboshi_runtime.records import EndReason, OutcomeLabel, Purpose, RunStatus, Split
from koboshi_runtime.store.rows import RunRow
from koboshi_runtime.task_making import append_tasks, checker_from_answer, tasks_from_runs
from koboshi_runtime.tasks import load_tasks, parse_task
from koboshi_tools import UsageError


def run(run_id: str, prompt: str, answer: str) -> RunRow:
    return RunRow(
        run_id=run_id,
        created_at="2026-01-01T00:00:00Z",
        status=RunStatus.FINISHED,
        purpose=Purpose.WORK,
        split=Split.TRAIN,
        outcome=OutcomeLabel.SUCCESS,
        model="m",
        model_hash="sha256:0",
        task_id=None,
        prompt=prompt,
        answer=answer,
        end_reason=EndReason.ANSWER,
        steps=1,
        calls=0,
        tools=(),
    )


@pytest.mark.parametrize(
    ("answer", "checker"),
    [
        ("The total is $1,204.50.", {"kind": "number", "answer": "1204.50"}),
        ("Paris", {"kind": "one_of", "answers": ["Paris"]}),
        ("12 of them are in Paris.", {"kind": "one_of", "answers": ["12 of them are in Paris."]}),
        ("a long answer " * 10, None),
        ("two\nlines", None),
        ("", None),
    ],
)
def test_an_answer_judges_only_where_it_is_plain(answer: str, checker: object) -> None:
    assert checker_from_answer(answer) == checker


def test_runs_become_tasks_once(tmp_path: Path) -> None:
    runs = [run("r1", "How many?", "It is 4."), run("r2", "how  MANY?", "4"), run("r3", "Why?", "because " * 20)]
    made = tasks_from_runs(runs, ())
    assert [task.id for task in made.tasks] == ["run-r1"]
    assert (made.known, made.unclear) == (("r2",), ("r3",))
    assert tasks_from_runs(runs, made.tasks).known == ("r1", "r2")


def test_a_given_checker_judges_what_is_unclear() -> None:
    made = tasks_from_runs([run("r3", "Why?", "because " * 20)], (), checker={"kind": "regex", "pattern": "because"})
    assert [task.checker.kind for task in made.tasks if task.checker] == ["regex"]


def test_added_tasks_are_read_back_and_an_id_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks" / "train.jsonl"
    first = parse_task('{"id": "a", "prompt": "é?", "checker": null}')
    append_tasks(path, [first])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    append_tasks(path, [first.model_copy(update={"id": "b"})])
    assert [task.id for task in load_tasks(path)] == ["a", "b"]
    with pytest.raises(UsageError, match="has a task 'b' already"):
        append_tasks(path, [first.model_copy(update={"id": "b"})])
    assert list(path.parent.iterdir()) == [path]
