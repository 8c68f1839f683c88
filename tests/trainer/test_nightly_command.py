"""`koboshi nightly`: what it says in an empty home, what is due, and that looking at nights loads no trainer."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main, verbs
from koboshi_runtime.home import open_home
from koboshi_runtime.store import JobStatus, Store
from koboshi_trainer.night.readiness import JOB

_IMPORTED = """
import sys
from koboshi_runtime.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "koboshi.toml").touch()
    return tmp_path


def _nightly(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["nightly", *arguments])


def test_every_verb_says_in_one_line_what_it_does_and_shows_an_example() -> None:
    command = verbs.load("nightly")
    assert isinstance(command, click.Group)
    assert sorted(command.commands) == ["install-timer", "remove-timer", "report", "run", "status"]
    for found in (command, *command.commands.values()):
        assert found.help is not None
        assert found.help.count("Example: ") == 1
        assert all(option.help for option in found.params if isinstance(option, click.Option))


@pytest.mark.parametrize("arguments", [["status"], ["install-timer"]])
def test_looking_at_nights_does_not_import_torch(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, "nightly", *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "False"


def test_a_bare_nightly_tells_the_status() -> None:
    done = _nightly()
    assert (done.exit_code, done.stdout) == (0, "0 labelled, 60 needed: run and label 60 more\n")
    assert json.loads(_nightly("status", "--json").stdout)["labels"]["missing"] == 60


def test_before_any_night_there_is_no_report() -> None:
    done = _nightly("report")
    assert done.exit_code == 2
    assert "there is no report of a night" in done.stderr


def test_a_night_that_began_since_the_hour_is_not_due_again(own_home: Path) -> None:
    store = Store.open(open_home(path=own_home / "home").traces)
    store.finish_job(store.start_job(JOB, {"night_id": "n"}), JobStatus.DONE, {})
    an_hour_ago = (datetime.now() - timedelta(hours=1)).strftime("%H:%M")
    done = _nightly("run", "--due", an_hour_ago)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing is due" in done.stderr


def test_a_time_that_is_none_is_wrong_usage() -> None:
    assert _nightly("run", "--due", "3 o'clock").exit_code == 2
