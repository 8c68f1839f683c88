"""Annotated problems become tasks and demonstrations; what contradicts the calculator becomes none."""

import json
from pathlib import Path

import pytest

from koboshi_tools import UsageError
from koboshi_trainer.gsm8k import read_demonstrations, read_problems


def _file(folder: Path, *solutions: str) -> Path:
    lines = [json.dumps({"question": f"Question {n}?", "answer": text}) for n, text in enumerate(solutions)]
    path = folder / "problems.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


TWO_STEPS = "Ben buys 3 bags, so 3*4 = <<3*4=12>>12 rolls.\nWith 5 more he has 12+5 = <<12+5=17>>17.\n#### 17"


def test_each_annotation_becomes_a_call_with_the_words_before_it_as_its_thought(tmp_path: Path) -> None:
    (solved,) = read_demonstrations(_file(tmp_path, TWO_STEPS), (2,))
    told = [(turn.text, turn.call.arguments if turn.call else None) for turn in solved.turns]
    assert told == [
        ("Ben buys 3 bags, so 3*4", {"expression": "3*4"}),
        ("With 5 more he has 12+5", {"expression": "12+5"}),
        ("The answer is 17.", None),
    ]
    assert solved.task.as_json()["checker"] == {"kind": "number", "answer": "17"}
    assert solved.task.tools == ("calculator",)


@pytest.mark.parametrize(
    "solution",
    [
        "It is 3*4 = <<3*4=13>>13.\n#### 13",
        "It is 3*4 = <<3*4=12>>12, and one more.\n#### 13",
        "It is <<x*4=12>>12.\n#### 12",
    ],
    ids=["the calculator says otherwise", "the last result is not the gold answer", "no arithmetic"],
)
def test_solution_that_contradicts_the_tool_is_a_task_and_no_demonstration(tmp_path: Path, solution: str) -> None:
    path = _file(tmp_path, solution)
    assert read_demonstrations(path, (1,)) == []
    assert [task.prompt for task in read_problems(path, (1,))] == ["Question 0?"]


def test_only_problems_with_the_wanted_number_of_steps_are_read(tmp_path: Path) -> None:
    path = _file(tmp_path, TWO_STEPS, "It is 2*2 = <<2*2=4>>4.\n#### 4")
    assert [task.id for task in read_problems(path, (1,))] == ["gsm8k-00002"]
    assert len(read_problems(path, (1, 2))) == 2


def test_line_that_is_no_problem_is_refused_by_its_number(tmp_path: Path) -> None:
    path = _file(tmp_path, TWO_STEPS, "no gold answer")
    with pytest.raises(UsageError, match="line 2"):
        read_problems(path, (2,))
