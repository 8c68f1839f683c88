"""The tutorial "the first night", from its own text: files are saved, commands run in a shell, on the real model."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from koboshi_runtime.home import open_home
from koboshi_runtime.project import load_project
from koboshi_runtime.trust import pin_new

pytestmark = [pytest.mark.slow, pytest.mark.model]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-night.md"
_STEP = re.compile(
    r"[Ss]ave this as `(?P<path>[^`]+)`:\n\n```\w+\n(?P<text>.*?)```|```console\n(?P<console>.*?)```", re.DOTALL
)
_REFUSED = 3


def commands(console: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that are shown below it."""
    for part in console.split("$ ")[1:]:
        line, *shown = part.splitlines()
        yield line, shown


def blanks(text: str) -> str:
    return " ".join(text.split())


def allowed(command: str) -> tuple[int, ...]:
    """Return the exit codes that the page speaks of: who is not asked does not agree, and two tasks prove nothing."""
    return (0, _REFUSED) if command in {"koboshi trust", "koboshi nightly run"} else (0,)


def test_every_step_of_the_tutorial_runs_and_prints_what_it_shows(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    steps = list(_STEP.finditer(PAGE.read_text(encoding="utf-8")))
    assert len([step for step in steps if step["path"]]) == 6
    for step in steps:
        if step["path"]:
            Path(step["path"]).write_text(step["text"], encoding="utf-8")
            continue
        for command, shown in commands(step["console"]):
            if command.startswith("cd "):
                monkeypatch.chdir(command.split()[1])
                continue
            typed = f"koboshi models add {smollm2_gguf}" if command == "koboshi models add" else command
            done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=False)
            assert done.returncode in allowed(command), f"$ {command}\n{done.stdout}{done.stderr}"
            output = blanks(done.stdout)
            assert [line for line in shown if blanks(line) not in output] == [], f"$ {command}\n{output}"
            if command == "koboshi trust":
                # What a person at a terminal does by answering `y`.
                pin_new(open_home(), load_project(Path.cwd()).root)
    assert '"kind": "refused"' in (next((tmp_path / "home" / "reports").glob("night-*.json"))).read_text("utf-8")
