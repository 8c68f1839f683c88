"""The runtime alone: without the packages of the extras every verb works, or says which extra it needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from koboshi_runtime.home import open_home
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new

ROOT = Path(__file__).parents[3]
_PROGRAM = """
import sys

class Absent:
    names = {"torch", "transformers", "peft", "safetensors", "gguf", "matplotlib", "trl", "mcp"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from koboshi_runtime.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KOBOSHI_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    made = init_project(tmp_path / "place")
    pin_new(open_home(), made.root)
    return made.root


def koboshi(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_runtime_needs_none_of_them(project: Path) -> None:
    done = koboshi(project, "tools", "list", "--json")
    assert (done.returncode, [tool["name"] for tool in json.loads(done.stdout)][:1] != []) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "train",
        "train build",
        "train fit",
        "train export",
        "train gate",
        "nightly run",
        "demo",
        f"lab run {ROOT}/docs/lab/nat-135m.toml",
        f"lab speed {ROOT}/docs/lab/nat-135m.toml",
    ],
)
def test_what_trains_names_the_extra(project: Path, line: str) -> None:
    done = koboshi(project, *line.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert "which is not installed\nhint: pip install 'koboshi[train]'\n" in done.stderr


def test_under_json_the_extra_is_the_hint(project: Path) -> None:
    told = json.loads(koboshi(project, "train", "--json").stderr.splitlines()[-1])
    assert (told["hint"], told["exit_code"]) == ("pip install 'koboshi[train]'", 1)
