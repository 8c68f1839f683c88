"""Timers of nights: units that systemd takes, a line that cron takes, and what the commands write and show."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koboshi_runtime.cli import main
from koboshi_tools import UsageError
from koboshi_trainer.night.timers import Timer, cron_line, units

_CRONTAB = """#!/bin/sh
if [ "$1" = -l ]; then cat "$HOME/table" 2>/dev/null; else cat > "$HOME/table"; fi
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, a home and a person's folders of its own, and a crontab that keeps its table in a file."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "crontab").write_text(_CRONTAB, encoding="utf-8")
    (programs / "crontab").chmod(0o755)
    project = tmp_path / "project"
    project.mkdir()
    (project / "koboshi.toml").touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    return tmp_path


def _nightly(place: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["nightly", *arguments, "-C", str(place / "project")])


def _odd_timer(tmp_path: Path) -> Timer:
    """A timer of paths with all that units and cron's table give a meaning to."""
    return Timer(tmp_path / "home 50%h", tmp_path / '$HOME "my" 100%% `shop`', "03:00", tmp_path / "con fig")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here to verify units")
@pytest.mark.parametrize("odd", [False, True])
def test_the_units_pass_systemds_own_check(tmp_path: Path, odd: bool) -> None:
    timer = _odd_timer(tmp_path) if odd else Timer(tmp_path / "home", tmp_path / "shop", "03:00")
    files = [tmp_path / name for name in units(timer)]
    for path, text in zip(files, units(timer).values(), strict=True):
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *map(str, files)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_line_of_cron_gives_its_words_to_the_shell_unchanged(tmp_path: Path) -> None:
    timer = _odd_timer(tmp_path)
    minute, command = cron_line(timer).split(" * * * * ", 1)
    # As cron does before it calls the shell.
    command = command.replace("\\%", "%")
    shown = tmp_path / "shown"
    replaced = command.replace(str(Path(sys.executable).with_name("koboshi")), f"python3 {tmp_path}/show.py")
    (tmp_path / "show.py").write_text(
        f"import os, sys; open({str(shown)!r}, 'w').write(repr([os.environ['KOBOSHI_HOME'], *sys.argv[1:]]))",
        encoding="utf-8",
    )
    subprocess.run(["sh", "-c", replaced], check=True)
    words = ["-C", str(timer.project), "nightly", "run", "--when-idle", "--due", "03:00"]
    assert (minute, shown.read_text(encoding="utf-8")) == ("7", repr([str(timer.home), *words]))


def test_a_path_that_no_timer_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no timer can hold"):
        units(Timer(tmp_path, tmp_path / "a\nExecStart=evil", "03:00"))


def test_a_timer_is_shown_and_not_installed_without_a_yes(place: Path) -> None:
    done = _nightly(place, "install-timer", "--kind", "cron")
    assert done.exit_code == 2
    assert "--due 03:00" in done.stdout
    assert "--yes" in done.stderr
    assert not (place / "table").exists()


def test_installing_again_replaces_the_line_and_leaves_others(place: Path) -> None:
    (place / "table").write_text("0 1 * * * backup\n", encoding="utf-8")
    for at in ("03:00", "4:30"):
        assert _nightly(place, "install-timer", "--kind", "cron", "--yes", "--at", at).exit_code == 0
    first, ours = (place / "table").read_text(encoding="utf-8").splitlines()
    assert first == "0 1 * * * backup"
    assert "--due 04:30" in ours
    assert _nightly(place, "remove-timer").exit_code == 0
    assert (place / "table").read_text(encoding="utf-8") == "0 1 * * * backup\n"
    assert "nothing to remove" in _nightly(place, "remove-timer").stderr


def test_without_a_user_manager_the_units_are_written_and_it_says_what_is_left_to_do(place: Path) -> None:
    done = _nightly(place, "install-timer", "--kind", "systemd", "--yes")
    written = sorted(path.suffix for path in (place / "config" / "systemd" / "user").iterdir())
    assert (done.exit_code, written) == (1, [".service", ".timer"])
    assert "systemctl --user daemon-reload" in done.stderr
    assert "no longer begin" in _nightly(place, "remove-timer").stderr
    assert list((place / "config" / "systemd" / "user").iterdir()) == []


def test_a_time_that_is_none_is_wrong_usage(place: Path) -> None:
    done = _nightly(place, "install-timer", "--at", "25:00")
    assert done.exit_code == 2
    assert "'25:00' is no time of day" in done.stderr
