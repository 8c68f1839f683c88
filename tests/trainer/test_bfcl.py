"""Questions of a wheel become tasks of the contract; splits share no function; the live files are never opened."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from koboshi_runtime.checkers import Finished, judge
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.tasks import Task, load_tasks
from koboshi_tools import KoboshiError, ToolCall
from koboshi_trainer.bfcl import read_wheel, split_tasks
from koboshi_trainer.commands.lab import lab

_FOLDER = "bfcl_eval/data"


def _function(name: str) -> dict[str, Any]:
    parameters = {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]}
    return {"name": name, "description": "It computes.", "parameters": parameters}


def _question(kind: str, number: int, *functions: str) -> dict[str, Any]:
    turn = [{"role": "user", "content": f"{kind} {number}?"}]
    return {"id": f"{kind}_{number}", "question": [turn], "function": [_function(name) for name in functions]}


def _write(path: Path, *, chained: int = 4, alone: int = 40) -> Path:
    simple = [_question("simple_python", n, f"alone{n}") for n in range(alone)]
    several = [_question("multiple", n, f"chain{n}", f"chain{n + 1}") for n in range(chained)]
    none = [_question("irrelevance", n, f"alone{n}") for n in range(4)]
    right = [{"id": one["id"], "ground_truth": [{one["function"][0]["name"]: {"x": [5]}}]} for one in simple + several]
    files: dict[str, Sequence[Any]] = {"simple_python": simple, "multiple": several, "irrelevance": none}
    with zipfile.ZipFile(path, "w") as archive:
        for kind, rows in files.items():
            archive.writestr(f"{_FOLDER}/BFCL_v4_{kind}.json", "\n".join(map(json.dumps, rows)))
        for kind in ("simple_python", "multiple"):
            found = [one for one in right if one["id"].startswith(kind)]
            archive.writestr(f"{_FOLDER}/possible_answer/BFCL_v4_{kind}.json", "\n".join(map(json.dumps, found)))
        archive.writestr(f"{_FOLDER}/BFCL_v4_live_simple.json", "this is not JSON: whoever reads it falls")
    return path


def _names(tasks: Sequence[Task]) -> set[str]:
    return {spec.name for task in tasks for spec in task.tool_specs or ()}


def test_accepted_call_is_a_success_and_a_call_where_none_is_right_a_failure(tmp_path: Path) -> None:
    found = {task.id: task for task in read_wheel(_write(tmp_path / "w.whl"))}
    call = ToolCall(name="alone3", arguments={"x": 5.0})
    asked, not_asked = found["bfcl-simple_python_3"], found["bfcl-irrelevance_3"]
    assert asked.checker is not None
    assert not_asked.checker is not None
    assert judge(asked.checker, Finished(answer=None, calls=(call,))).label is OutcomeLabel.SUCCESS
    assert judge(asked.checker, Finished(answer="no")).label is OutcomeLabel.FAILURE
    assert judge(not_asked.checker, Finished(answer=None, calls=(call,))).label is OutcomeLabel.FAILURE
    assert judge(not_asked.checker, Finished(answer="no")).label is OutcomeLabel.SUCCESS


def test_no_split_offers_a_function_of_another(tmp_path: Path) -> None:
    tasks = read_wheel(_write(tmp_path / "w.whl"))
    splits = split_tasks(tasks)
    assert sum(map(len, splits.values())) == len(tasks)
    assert all(splits.values())
    names = [_names(some) for some in splits.values()]
    assert not (names[0] & names[1])
    assert not (names[0] & names[2])
    assert not (names[1] & names[2])


def test_questions_that_are_tied_through_others_stay_together(tmp_path: Path) -> None:
    splits = split_tasks(read_wheel(_write(tmp_path / "w.whl", chained=9)))
    holding = [name for name, some in splits.items() if any(task.meta["level"] == "multiple" for task in some)]
    assert holding == ["train"]


def test_split_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    tasks = read_wheel(_write(tmp_path / "w.whl"))
    assert split_tasks(tasks) == split_tasks(tasks[::-1])


def test_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    path.write_text("no", encoding="utf-8")
    with pytest.raises(KoboshiError, match="not the wheel"):
        read_wheel(path)


def test_command_writes_task_files(tmp_path: Path) -> None:
    wheel, out = _write(tmp_path / "w.whl"), tmp_path / "out"
    done = CliRunner().invoke(lab, ["tasks", "bfcl", "--wheel", str(wheel), "--out", str(out), "--json"])
    counts = json.loads(done.stdout)
    assert counts == {str(path): len(load_tasks(path)) for path in out.glob("*.jsonl")}
    assert len(counts) == 3
