"""Training opens a project by the same gate as a run: what nobody agreed to is not loaded at night either."""

from pathlib import Path

import pytest

from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import open_home
from koboshi_runtime.trust import UntrustedError, pin_new
from koboshi_trainer.workshop import Workshop

TOOL = """
from pathlib import Path

from koboshi_tools import tool

(Path(__file__).parents[1] / "ran").touch()


@tool
def hello() -> str:
    \"\"\"Say hello.\"\"\"
    return "hello"
"""


def test_workshop_refuses_a_project_that_nobody_agreed_to_before_its_tools_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home, root = open_home(path=tmp_path / "home"), tmp_path / "project"
    (root / "tools").mkdir(parents=True)
    (root / "koboshi.toml").touch()
    (root / "tools/hello.py").write_text(TOOL, encoding="utf-8")
    with pytest.raises(UntrustedError, match="tool tools/hello.py"):
        Workshop.open(home, root, Settings())
    assert not (root / "ran").exists()
    pin_new(home, root)
    workshop = Workshop.open(home, root, Settings())
    workshop.close()
    assert "hello" in workshop.tools
