"""A project opened from Python does what the command line does."""

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from koboshi_policies import Answer
from koboshi_runtime.api import open_project
from koboshi_runtime.home import open_home
from koboshi_runtime.model import GenerateRequest, Reply
from koboshi_runtime.records import CallIntent, OutcomeLabel, OutcomeSource, RunStatus
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_runtime.tasks import Task
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new
from koboshi_tools import KoboshiError, UsageError

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "17 * 23"}}\n</tool_call>'
SUM = Task.model_validate({"id": "sum", "prompt": "2 + 2?", "checker": {"kind": "number", "answer": 4}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = init_project(tmp_path / "agent").root
    pin_new(open_home(), root)
    return root


def test_prompt_is_run_recorded_and_labelled(folder: Path) -> None:
    with open_project(folder, model=ScriptedModel([CALL, "It is 391."])) as project:
        result = project.run("How much is 17 * 23?")
        (call,) = project.trajectory(result.run_id).calls
        project.label(result.run_id, "success", why="I checked it")
        (label,) = project.trajectory(result.run_id).outcomes
    assert (result.answer, result.outcome) == ("It is 391.", OutcomeLabel.UNKNOWN)
    assert call.result is not None
    assert (call.intent.call.arguments, call.result.output) == ({"expression": "17 * 23"}, "391")
    assert (label.label, label.source, label.rationale) == (OutcomeLabel.SUCCESS, OutcomeSource.PERSON, "I checked it")


def test_calls_work_where_an_event_loop_runs_already(folder: Path) -> None:
    async def in_a_notebook() -> OutcomeLabel:
        with open_project(folder, model=ScriptedModel(["4"])) as project:
            return project.run(SUM).outcome

    assert asyncio.run(in_a_notebook()) is OutcomeLabel.SUCCESS


def test_many_tasks_give_their_results_in_order(folder: Path) -> None:
    tasks = [SUM, SUM.model_copy(update={"id": "other", "prompt": "3 + 3?"})]
    with open_project(folder, model=ScriptedModel(["4"] * 4)) as project:
        results = project.run_all(tasks, samples=2)
    assert [(result.task_id, result.sample) for result in results] == [
        ("sum", 0),
        ("sum", 1),
        ("other", 0),
        ("other", 1),
    ]


def test_settings_of_the_project_hold_unless_others_are_given(folder: Path) -> None:
    with (folder / "koboshi.toml").open("a", encoding="utf-8") as file:
        file.write("\n[run]\ntemperature = 0.7\nseed = 5\n")
    pin_new(open_home(), folder)
    model = ScriptedModel(["4", "4"])
    with open_project(folder, model=model) as project:
        headers = [project.trajectory(project.run(SUM, seed=seed).run_id).header for seed in (None, 9)]
    assert [(header.seed, header.temperature) for header in headers] == [(5, 0.7), (9, 0.7)]


def test_call_that_is_asked_about_is_put_to_the_asker(folder: Path) -> None:
    rules = folder / "policies" / "project.toml"
    rules.write_text(
        rules.read_text(encoding="utf-8").replace('verdict = "allow"', 'verdict = "ask"'), encoding="utf-8"
    )
    pin_new(open_home(), folder)
    asked: list[str] = []

    class Agrees:
        async def ask(self, run_id: str, intent: CallIntent) -> Answer:
            asked.append(json.dumps(intent.call.arguments))
            return Answer.APPROVED

    with open_project(folder, model=ScriptedModel([CALL, "391"]), asker=Agrees()) as project:
        assert project.run("17 * 23?").tools == {"calculator": 1}
    assert asked == ['{"expression": "17 * 23"}']


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this process, as a process that was started in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_a_run_that_can_be_resumed(folder: Path) -> None:
    class Stuck(ScriptedModel):
        async def generate(self, request: GenerateRequest) -> Reply:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.Event().wait()
            return await super().generate(request)

    with open_project(folder, model=Stuck([])) as project, pytest.raises(KeyboardInterrupt):
        project.run("anything")
    (row,) = Store.read_only(folder.parent / "home" / "traces.db").runs()
    assert row.status is RunStatus.INTERRUPTED


def test_project_or_model_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"koboshi\.toml"):
        open_project(tmp_path / "nothing", model=ScriptedModel([]))
    with pytest.raises(KoboshiError, match="no current model"):
        open_project(folder)


def test_closing_twice_does_nothing(folder: Path) -> None:
    project = open_project(folder, model=ScriptedModel([]))
    project.close()
    project.close()
