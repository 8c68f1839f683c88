"""The page on writing a tool as it stands: file and rule give the agent a tool, without the rule it is gone."""

import asyncio
import re
from pathlib import Path

import pytest
from tests.runtime.run_makers import calls, task

from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import open_home
from koboshi_runtime.records import Purpose, Trajectory
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.session import Place, open_session
from koboshi_runtime.trust import pin_new
from koboshi_tools import RefusedError, Transport
from koboshi_tools.lock import read_lock

PAGE = (Path(__file__).parents[2] / "docs/how-to/write-a-tool.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    for name, text in (
        ("koboshi.toml", ""),
        ("tools/notes.py", block("python")),
        ("policies/own.toml", block("toml")),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def ran(project: Path, *texts: str) -> Trajectory:
    """Return a run of the project whose model notes these texts."""

    async def main() -> Trajectory:
        home = open_home()
        pin_new(home, project)
        model = ScriptedModel([*(calls(("note", {"text": text})) for text in texts), "done"])
        async with open_session(Place(home, project, Settings()), model=model) as session:
            result = await session.runner(RunSettings(purpose=Purpose.WORK)).run(task())
            return session.store.trajectory(result.run_id)

    return asyncio.run(main())


def test_a_tool_file_and_a_rule_are_enough_and_without_the_rule_it_is_gone(project: Path) -> None:
    found = ran(project, "one", "two", "a\nb")
    assert found.header.tools == ("note",)
    results = [call.result for call in found.calls if call.result]
    assert [result.output for result in results] == ['{"notes":1}', '{"notes":2}', "a note is one line"]
    assert {result.transport for result in results} == {Transport.OK}
    assert (project / "workspace/notes.txt").read_text(encoding="utf-8") == "one\ntwo\n"
    assert list(read_lock(project)) == ["note"]
    (project / "policies/own.toml").write_text("", encoding="utf-8")
    assert ran(project).header.tools == ()


def test_a_tool_that_changed_refuses_the_run_by_its_name(project: Path) -> None:
    ran(project, "one")
    path = project / "tools/notes.py"
    path.write_text(path.read_text(encoding="utf-8").replace('version="1"', 'version="2"'), encoding="utf-8")
    with pytest.raises(RefusedError, match="the tool 'note' is not the one that was accepted: version 1 became 2"):
        ran(project, "two")
    assert (project / "workspace/notes.txt").read_text(encoding="utf-8") == "one\n"
