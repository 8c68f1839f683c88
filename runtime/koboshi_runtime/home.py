"""The home: the one folder that holds everything koboshi keeps.

It lies at `$KOBOSHI_HOME`, else `$XDG_DATA_HOME/koboshi`, else `~/.local/share/koboshi`. Folders have mode 0700, files
0600: traces hold prompts and tool output. A home that belongs to someone else, or that others may write to, is refused,
because whoever can write there decides which model runs.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from koboshi_tools import KoboshiError, UsageError

_FOLDER_MODE = 0o700
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_MAY_ANYTHING = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of a home; `root` is absolute."""

    root: Path

    @property
    def traces(self) -> Path:
        """The trace store, one SQLite file."""
        return self.root / "traces.db"

    @property
    def models(self) -> Path:
        """Models by hash, and the pointer to the current one."""
        return self.root / "models"

    @property
    def datasets(self) -> Path:
        """Frozen training sets by hash."""
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        """Training runs with their adapters and optimizer state."""
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        """What a person reads: gate verdicts, parity, mornings."""
        return self.root / "reports"

    @property
    def trust(self) -> Path:
        """What a person agreed to let projects contribute, one file a project."""
        return self.root / "trust"

    @property
    def tokens(self) -> Path:
        """The tokens of the server, one file for each scope."""
        return self.root / "tokens"

    @property
    def run(self) -> Path:
        """Sockets, locks and process ids; nothing here outlives a reboot."""
        return self.root / "run"

    @property
    def server(self) -> Path:
        """What a running server says of itself; it may be left by one that died."""
        return self.run / "server.json"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder of the home, the root first."""
        return (self.root, self.models, self.datasets, self.runs, self.reports, self.trust, self.tokens, self.run)


def home_path(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the home lies. Raises UsageError if a variable names a relative path."""
    environment = os.environ if environment is None else environment
    if named := environment.get("KOBOSHI_HOME"):
        return _absolute("KOBOSHI_HOME", named)
    # The XDG specification says that a relative path there is to be ignored.
    data = environment.get("XDG_DATA_HOME", "")
    return (Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share") / "koboshi"


def open_home(*, create: bool = True, path: Path | None = None) -> Home:
    """Return the home, made and checked.

    Args:
        create: make what is missing; otherwise a missing home is an error.
        path: where it lies, instead of where the environment says.

    Raises:
        KoboshiError: it belongs to someone else, others may write to it, or it cannot be made.
        UsageError: the environment names a relative path.
    """
    home = Home(path or home_path())
    if not create and not home.root.is_dir():
        raise KoboshiError(f"there is no home at {home.root}", hint="Run `koboshi models add` to begin one.")
    for folder in home.folders if create else (home.root,):
        _make(folder)
        _check(folder)
    return home


def _absolute(name: str, value: str) -> Path:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise UsageError(f"{name} is {value!r}, a relative path", hint=f"Give an absolute path: {name}=$PWD/{value}")
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise KoboshiError(
            f"cannot make {folder}: {error.strerror}", hint="Set KOBOSHI_HOME to a folder of your own."
        ) from error


def _check(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise KoboshiError(
            f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}",
            hint="Set KOBOSHI_HOME to a folder of your own.",
        )
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise KoboshiError(
            f"others may write to {folder} (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"See what lies there, then: chmod 700 {folder}",
        )
    if found.st_mode & _OTHERS_MAY_ANYTHING:
        folder.chmod(_FOLDER_MODE)
