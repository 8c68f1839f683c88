import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from koboshi_runtime.config_values import Settings
from koboshi_runtime.evaluate import Evaluation, evaluate
from koboshi_runtime.home import open_home
from koboshi_runtime.records import Purpose
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.session import Place, open_session
from koboshi_runtime.statistics import wilson_interval
from koboshi_runtime.tasks import parse_tasks
from koboshi_runtime.trust import pin_new
from koboshi_tools import KoboshiError, UsageError

_NUMBER = '{"id": "sum", "prompt": "2 + 2?", "checker": {"kind": "number", "answer": 4}, "tools": []}'
_UNJUDGED = '{"id": "open", "prompt": "Say hello.", "checker": null, "tools": []}'
_FOREIGN = (
    '{"id": "weather", "prompt": "Weather in Bern?", "tool_specs": [{"name": "weather.now", "parameters": '
    '{"type": "dict", "properties": {"city": {"type": "string"}}, "required": ["city"]}}], '
    '"checker": {"kind": "tool_call", "accept": [{"name": "weather.now", "arguments": {"city": ["bern"]}}]}}'
)
_COMMAND = '{"id": "c", "prompt": "Go.", "checker": {"kind": "command", "file": "judge.py", "sha256": "%s"}}' % (
    "0" * 64
)


_FETCH = """
from koboshi_tools import tool

@tool(effect="net")
def fetch(url: str) -> str:
    \"\"\"Fetch a page.\"\"\"
    return url
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def _place(tmp_path: Path) -> Place:
    return Place(open_home(path=tmp_path / "home"), None, Settings())


def _measure(place: Place, lines: Sequence[str], replies: Sequence[str]) -> Evaluation:
    async def measured() -> Evaluation:
        async with open_session(place, model=ScriptedModel(replies)) as session:
            return await evaluate(session, parse_tasks("\n".join(lines), "test"), jobs=1)

    return asyncio.run(measured())


def test_home_without_a_model_fails_with_the_command_that_adds_one(tmp_path: Path) -> None:
    async def opened() -> None:
        async with open_session(_place(tmp_path)):
            raise AssertionError("there is no model to open a session on")

    with pytest.raises(KoboshiError, match="no current model") as caught:
        asyncio.run(opened())
    assert caught.value.exit_code == 1
    assert "koboshi models add" in str(caught.value.hint)


def test_session_outside_a_project_leaves_the_working_directory_as_it_was(tmp_path: Path) -> None:
    place = _place(tmp_path)
    before = sorted(tmp_path.iterdir())
    _measure(place, [_NUMBER], ["4"])
    assert sorted(tmp_path.iterdir()) == before


def test_evaluation_counts_an_unjudged_run_as_no_success(tmp_path: Path) -> None:
    found = _measure(_place(tmp_path), [_NUMBER, _UNJUDGED], ["4", "hello"])
    assert [result.outcome.value for result in found.results] == ["success", "unknown"]
    assert found.success_rate == 0.5
    assert found.invalid_call_rate is None


def test_run_that_could_not_be_replayed_counts_in_rate_and_interval_alike(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "tools").mkdir(parents=True)
    (project / "koboshi.toml").write_text("", encoding="utf-8")
    (project / "policies").mkdir()
    (project / "policies" / "rules.toml").write_text(
        '[[rule]]\nverdict = "allow"\ntools = ["fetch"]\nreason = "test"\n', encoding="utf-8"
    )
    (project / "tools" / "fetch.py").write_text(_FETCH, encoding="utf-8")
    place = Place(open_home(path=tmp_path / "home"), project, Settings())
    pin_new(place.home, project)
    fetching = '<tool_call>\n{"name": "fetch", "arguments": {"url": "u"}}\n</tool_call>'
    net = _NUMBER.replace('"sum"', '"net"').replace('"tools": []', '"tools": ["fetch"]')
    found = _measure(place, [_NUMBER, net], ["4", fetching])
    assert [result.outcome.value for result in found.results] == ["success", "unknown"]
    assert found.success_rate == 0.5
    assert found.ci95 == wilson_interval(0.5, 2)


def test_evaluation_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    found = _measure(_place(tmp_path), [_NUMBER], ["5"]).model_dump(mode="json")
    keys = "model tasks success_rate ci95 invalid_call_rate mean_steps output_tokens wall_s results"
    assert list(found) == keys.split()
    assert list(found["results"][0]) == ["task_id", "outcome", "answer", "run_id"]
    assert found["ci95"] == [0.0, pytest.approx(0.793, abs=0.001)]


def test_call_of_a_tasks_own_function_with_a_dot_in_its_name_is_judged_and_never_executed(tmp_path: Path) -> None:
    call = '<tool_call>\n{"name": "weather.now", "arguments": {"city": " Bern "}}\n</tool_call>'
    found = _measure(_place(tmp_path), [_FOREIGN], [call])
    assert found.results[0].outcome == "success"
    assert found.mean_steps == 1
    assert found.invalid_call_rate == 0


def test_evaluated_runs_are_stored_where_training_does_not_read(tmp_path: Path) -> None:
    async def purposes() -> set[Purpose]:
        async with open_session(_place(tmp_path), model=ScriptedModel(["4"])) as session:
            await evaluate(session, parse_tasks(_NUMBER, "test"))
            return {row.purpose for row in session.store.runs()}

    assert asyncio.run(purposes()) == {Purpose.EVAL}


def test_command_checker_is_refused_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would run the program"):
        _measure(_place(tmp_path), [_NUMBER, _COMMAND], ["4"])
