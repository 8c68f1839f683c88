"""What of this machine a sandboxed process can read, and what must never lie inside that.

The system's own folders, this interpreter with its packages, and a few files of `/etc`. The home folder is not among
them; an interpreter that lies in it is, alone.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pydantic

from ..errors import NoSandboxError

# Folders of the system, as they are found on one; whatever is missing is left out.
SYSTEM = tuple(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"))
# What programs look up in order to start. Nothing here is secret.
ETC = tuple(
    Path("/etc") / name
    for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "passwd", "group", "nsswitch.conf")
) + tuple(Path("/etc") / name for name in ("localtime", "mime.types", "terminfo", "inputrc", "profile"))
DEVICES = tuple(Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom"))

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def interpreter_places() -> tuple[Path, ...]:
    """Return the folders of this interpreter, its packages and koboshi's own tools, those inside others left out."""
    named = [sys.base_prefix, sys.prefix, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))]
    folders = [Path(name).resolve() for name in named if name]
    folders += [Path(pydantic.__file__).resolve().parents[1], _PACKAGE]
    return tuple(_outermost(folder for folder in folders if not _inside_any(folder, SYSTEM)))


@cache
def module_path() -> tuple[str, ...]:
    """Return where a sandboxed interpreter finds its modules: only folders that it can read."""
    readable = (*SYSTEM, *interpreter_places())
    found = [name for name in sys.path if os.path.isabs(name) and _inside_any(Path(name).resolve(), readable)]
    return (*found, str(_PACKAGE.parent))


def protected() -> tuple[Path, ...]:
    """Return what must lie in nothing that a tool reaches: the user's folder and koboshi's home."""
    user = Path.home()
    data = os.environ.get("XDG_DATA_HOME", "")
    kept = Path(os.environ.get("KOBOSHI_HOME") or (data if os.path.isabs(data) else user / ".local/share")).resolve()
    return (user.resolve(), kept if os.environ.get("KOBOSHI_HOME") else kept / "koboshi", Path("/etc/koboshi"))


def refuse_overlap(workspace: Path) -> None:
    """Raise NoSandboxError if what a tool would reach holds a place that is out of every tool's reach."""
    for place in (workspace, *SYSTEM, *interpreter_places()):
        held = [kept for kept in protected() if kept == place or kept.is_relative_to(place)]
        if held:
            raise NoSandboxError(
                f"a sandbox would reach {held[0]}, because it lies in {place}",
                hint="Give the project a workspace, and koboshi a home (KOBOSHI_HOME), that hold nothing else.",
            )


def _outermost(folders: Iterable[Path]) -> list[Path]:
    kept: list[Path] = []
    for folder in sorted(set(folders), key=lambda path: len(path.parts)):
        if not _inside_any(folder, kept):
            kept.append(folder)
    return kept


def _inside_any(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
