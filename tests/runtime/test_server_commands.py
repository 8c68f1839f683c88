"""`koboshi serve`, `ps` and `stop` where no server is needed: what they refuse, and what they print."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main
from koboshi_runtime.home import open_home
from koboshi_runtime.presence import announce, only_server, running_server, stop_server
from koboshi_tools import KoboshiError

SLEEPER = """
import sys, time
from pathlib import Path
from koboshi_runtime.home import open_home
from koboshi_runtime.presence import announce
announce(open_home(path=Path(sys.argv[1])), url="http://127.0.0.1:1/v1", project="test")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def koboshi(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_nothing_runs_and_nothing_is_stopped_on_a_quiet_home() -> None:
    shown = koboshi("ps", "--json")
    assert json.loads(shown.stdout) == {"server": None, "workers": [], "runs": []}
    assert "koboshi serve" in koboshi("ps").stderr
    stopped = koboshi("stop")
    assert (stopped.exit_code, "no server runs" in stopped.stderr) == (1, True)


def test_a_server_is_found_stopped_and_gone(home: Path) -> None:
    place = open_home(path=home)
    command = [sys.executable, "-c", SLEEPER, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert json.loads(koboshi("ps", "--json").stdout)["server"]["pid"] == process.pid
        found = running_server(place)
        assert found is not None
        assert stop_server(found, patience_s=30)
        # It ended, though nobody has waited for it yet.
        assert running_server(place) is None


def test_one_home_has_one_server(home: Path) -> None:
    place = open_home(path=home)
    with only_server(place):
        announce(place, url="http://127.0.0.1:1/v1", project="test")
        with pytest.raises(KoboshiError, match="runs on"), only_server(place):
            pass
        assert running_server(place) is not None
    assert running_server(place) is None
    with only_server(place):
        pass


def test_a_unit_runs_the_command_that_printed_it(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / 'a "b" %c $d'
    folder.mkdir()
    (folder / "koboshi.toml").write_text("[agent]\n", encoding="utf-8")
    unit = koboshi("-C", str(folder), "serve", "--unit", "--port", "9").stdout
    lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    # What systemd undoes: specifiers, and in a command variables.
    words = shlex.split(lines["ExecStart"].replace("%%", "%").replace("$$", "$"))
    assert words[1:] == ["-C", str(folder), "serve", "--port", "9"]
    assert Path(words[0]).is_absolute()
    assert shlex.split(lines["Environment"]) == [f"KOBOSHI_HOME={home}"]


def test_mcp_takes_no_port() -> None:
    refused = koboshi("serve", "--mcp", "--port", "9")
    assert (refused.exit_code, "takes no other option" in refused.stderr) == (2, True)


def test_an_address_that_others_reach_is_refused() -> None:
    refused = koboshi("serve", "--host", "0.0.0.0")
    assert (refused.exit_code, "no loopback address" in refused.stderr) == (2, True)
