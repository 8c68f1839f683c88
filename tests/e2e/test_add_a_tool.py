"""The tutorial "add a tool": its files are written, its commands run, and what it shows is what they print.

Runs are played by a scripted model, through the same session as `koboshi run`; agreeing to the project takes the place
of the answer at a terminal.
"""

import asyncio
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.run_makers import calls, task

from koboshi_runtime.cli import main
from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import open_home
from koboshi_runtime.project import load_project
from koboshi_runtime.records import Purpose
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.session import Place, open_session
from koboshi_runtime.trust import pin, trust_state

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "add-a-tool.md"
_STEP = re.compile(
    r"Save this as `(?P<path>[^`]+)`:\n\n```\w+\n(?P<text>.*?)```"
    r"|Delete `(?P<gone>[^`]+)`"
    r"|```console\n(?P<console>.*?)```",
    re.DOTALL,
)
CALL = calls(("opening_hours", {"day": "Monday"}))


def run(prompt: str, answer: str) -> str:
    async def carry() -> str:
        place = Place(open_home(), Path.cwd(), Settings())
        async with open_session(place, model=ScriptedModel([CALL, answer])) as session:
            result = await session.runner(RunSettings(purpose=Purpose.WORK)).run(task("t", prompt=prompt))
            return result.answer or ""

    return asyncio.run(carry())


def commands(console: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that are shown below it."""
    for part in console.split("$ ")[1:]:
        line, *shown = part.splitlines()
        yield line, shown


def blanks(text: str) -> str:
    """Return `text` with single blanks only: a table has tabs where it is not shown on a terminal."""
    return " ".join(text.split())


def printed(command: str, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    words = shlex.split(command)
    if words[1] == "run":
        return run(words[2], shown[0])
    done = CliRunner().invoke(main, words[1:])
    if words[1] == "trust":
        home = open_home()
        pin(home, trust_state(home, load_project(Path.cwd())))
    else:
        assert done.exit_code == 0, done.stderr
    if words[1] == "init":
        monkeypatch.chdir(words[2])
    return done.stdout


def test_every_step_of_the_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    steps = list(_STEP.finditer(PAGE.read_text(encoding="utf-8")))
    assert len([step for step in steps if step["path"] or step["gone"]]) == 3
    for step in steps:
        if step["path"]:
            Path(step["path"]).write_text(step["text"], encoding="utf-8")
        elif step["gone"]:
            Path(step["gone"]).unlink()
        else:
            for command, shown in commands(step["console"]):
                output = blanks(printed(command, shown, monkeypatch))
                assert [line for line in shown if blanks(line) not in output] == [], f"$ {command}\n{output}"
