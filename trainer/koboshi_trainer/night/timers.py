"""What starts a night by itself: units of systemd's user manager, or a line of cron's table.

One timer for each pair of home and project, named by a hash of both, so that installing again replaces it. A missed
night is caught up: systemd remembers it (`Persistent`), and the line of cron asks every hour whether one is due. Either
way the night waits until nobody uses the machine (`--when-idle`). Values are made here and nothing is written; `place`
and `remove` write.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from koboshi_runtime.files import replace_file
from koboshi_tools import KoboshiError, UsageError, hash_value

Kind = Literal["systemd", "cron"]

_MARK = "# "
_SHORT = 12

_SERVICE = """[Unit]
Description=Koboshi's night for {title}

[Service]
Type=oneshot
ExecStart={command}
Environment={environment}
Nice=10
IOSchedulingClass=idle
TimeoutStartSec=infinity
# 3 says that the candidate was refused, which is a result.
SuccessExitStatus=3
"""

_TIMER = """[Unit]
Description=Koboshi's night for {title}, at {at}

[Timer]
OnCalendar=*-*-* {at}:00
# A night that was missed because the machine was off is caught up.
Persistent=true

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True, slots=True)
class Timer:
    """When a night begins (`at`, HH:MM in local time), of which project, in which home."""

    home: Path
    project: Path
    at: str
    config_home: Path | None = None

    @property
    def name(self) -> str:
        """The name of its units, and the mark of its line."""
        key = hash_value([str(self.home), str(self.project)]).removeprefix("sha256:")
        return f"koboshi-nightly-{key[:_SHORT]}"


def units(timer: Timer) -> dict[str, str]:
    """Return the two unit files by name. Raises UsageError for a path that no unit can hold."""
    command = " ".join(_unit_word(word).replace("$", "$$") for word in _night(timer))
    environment = " ".join(_unit_word(f"{name}={value}") for name, value in _environment(timer))
    title = _plain_path(timer.project).replace("%", "%%")
    return {
        f"{timer.name}.service": _SERVICE.format(title=title, command=command, environment=environment),
        f"{timer.name}.timer": _TIMER.format(title=title, at=timer.at),
    }


def cron_line(timer: Timer) -> str:
    """Return the line of cron's table that asks every hour whether a night is due."""
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in _environment(timer))
    words = [*_night(timer), "--due", timer.at]
    line = f"{settings} {shlex.join(words)} >/dev/null 2>&1 {_MARK}{timer.name}"
    _plain_path(timer.project)
    # cron takes a percent sign for the end of the command.
    return f"7 * * * * {line.replace('%', chr(92) + '%')}"


def find_kind() -> Kind:
    """Return what this machine starts things by. Raises KoboshiError if it has neither."""
    if shutil.which("systemctl") and _call("systemctl", "--user", "show-environment").returncode == 0:
        return "systemd"
    if shutil.which("crontab"):
        return "cron"
    raise KoboshiError(
        "neither systemd's user manager nor crontab is here to start nights by",
        hint="Write the units for another session with --kind systemd, or let your own scheduler call "
        "`koboshi nightly run --when-idle`.",
    )


def place_units(timer: Timer, folder: Path) -> None:
    """Write the units and let systemd start the timer. Raises KoboshiError, the units written, if it does not."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in units(timer).items():
        replace_file(folder / name, text.encode())
    for words in (("daemon-reload",), ("enable", "--now", f"{timer.name}.timer")):
        _systemctl(words, folder)


def remove_units(timer: Timer, folder: Path) -> bool:
    """Stop the timer and remove its units; says whether there were any."""
    there = [
        folder / f"{timer.name}.{kind}" for kind in ("timer", "service") if (folder / f"{timer.name}.{kind}").exists()
    ]
    if there:
        # A timer that systemd does not know needs no stopping.
        _call("systemctl", "--user", "disable", "--now", f"{timer.name}.timer")
    for path in there:
        path.unlink()
    if there:
        _call("systemctl", "--user", "daemon-reload")
    return bool(there)


def place_line(timer: Timer) -> None:
    """Put the line into cron's table, in place of an earlier one of this timer. Raises KoboshiError."""
    _write_table([*_other_lines(timer), cron_line(timer)])


def remove_line(timer: Timer) -> bool:
    """Take the line out of cron's table; says whether there was one. Raises KoboshiError."""
    if not shutil.which("crontab"):
        return False
    others = _other_lines(timer)
    if len(others) == len(_table()):
        return False
    _write_table(others)
    return True


def units_folder() -> Path:
    """Return where systemd looks for the units of this person."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "systemd" / "user"


def is_installed(timer: Timer) -> bool:
    """Say whether this timer was installed, by either kind."""
    if (units_folder() / f"{timer.name}.timer").exists():
        return True
    return bool(shutil.which("crontab")) and len(_other_lines(timer)) != len(_table())


def _night(timer: Timer) -> list[str]:
    koboshi = str(Path(sys.executable).with_name("koboshi"))
    return [koboshi, "-C", str(timer.project), "nightly", "run", "--when-idle"]


def _environment(timer: Timer) -> list[tuple[str, str]]:
    found = [("KOBOSHI_HOME", str(timer.home))]
    return found if timer.config_home is None else [*found, ("XDG_CONFIG_HOME", str(timer.config_home))]


def _unit_word(word: str) -> str:
    """Return a word as a unit file takes it: quoted, with its specifiers and quotes escaped (systemd.syntax(7))."""
    _plain_path(Path(word))
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _plain_path(path: Path) -> str:
    text = str(path)
    if not text.isprintable():
        raise UsageError(f"{text!r} has characters that no timer can hold", hint="Move the project or the home.")
    return text


def _table() -> list[str]:
    found = _call("crontab", "-l")
    # Without a table yet crontab fails, and there is nothing in it.
    return found.stdout.splitlines() if found.returncode == 0 else []


def _other_lines(timer: Timer) -> list[str]:
    return [line for line in _table() if not line.endswith(_MARK + timer.name)]


def _write_table(lines: Sequence[str]) -> None:
    done = _call("crontab", "-", told="".join(f"{line}\n" for line in lines))
    if done.returncode != 0:
        raise KoboshiError(f"crontab did not take the table: {done.stderr.strip()}")


def _systemctl(words: Sequence[str], folder: Path) -> None:
    done = _call("systemctl", "--user", *words)
    if done.returncode != 0:
        raise KoboshiError(
            f"the units are in {folder}, and systemd did not take them: {done.stderr.strip()}",
            hint=f"When you are logged in: systemctl --user {shlex.join(words)}",
        )


def _call(*command: str, told: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=told, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not here")
