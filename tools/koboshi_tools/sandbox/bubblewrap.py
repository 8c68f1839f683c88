"""The command line of bwrap: a file system of its own, and no other process, network or user in sight.

The root is empty but for the system's folders and the interpreter, all read-only, a `/tmp` in memory and the
workspace.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .places import ETC, SYSTEM, interpreter_places
from .profile import Access

# Not the environment's PATH: who can write there could take bwrap's place.
PROGRAMS = tuple(Path(folder) / "bwrap" for folder in ("/usr/bin", "/bin", "/usr/local/bin"))

# Of all files in /tmp together; it is memory.
_TMP_BYTES = 256 << 20


def bwrap() -> Path | None:
    """Return the program, None if it is not installed."""
    return next((path for path in PROGRAMS if path.exists()), None)


def wrapped(program: Path, command: Sequence[str], *, workspace: Path | None, access: Access) -> list[str]:
    """Return `command` as bwrap runs it; `workspace` lies at its own path, read-only unless access is `write`."""
    arguments = [str(program), "--unshare-all", "--new-session", "--cap-drop", "ALL", *_system()]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]
    for place in interpreter_places():
        arguments += ["--ro-bind", str(place), str(place)]
    if workspace is not None and access != "none":
        arguments += ["--bind" if access == "write" else "--ro-bind", str(workspace), str(workspace)]
    # What bwrap made itself can be written until it is told otherwise: memory without a bound.
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    return [*arguments, "--", *command]


def _system() -> Iterator[str]:
    for folder in SYSTEM:
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.exists():
            yield from ("--ro-bind", str(folder), str(folder))
    for file in ETC:
        if file.exists():
            yield from ("--ro-bind", str(file.resolve()), str(file))
