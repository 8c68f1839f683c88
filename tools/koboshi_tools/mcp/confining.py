"""A server's program inside bwrap: the system read-only, the folders that its entry names, and no more of the disk.

Asked for by `confine` in the entry; a machine where it cannot be had refuses the server rather than run it with more.
Covered: files outside of those folders, koboshi's home and the project's own files above all, which no entry can name;
other processes; the network, unless the entry asks for it; a program that would outlive this process. Not covered: how
much memory and time it takes, and, with the network, whom it talks to.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from ..errors import UsageError
from ..values import Frozen

# Not the environment's PATH: who can write there could take bwrap's place.
_PROGRAMS = tuple(Path(folder) / "bwrap" for folder in ("/usr/bin", "/bin", "/usr/local/bin"))
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
)
# What a program needs in order to find and check a host; no secret is among it.
_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")


class Confinement(Frozen):
    """What a server may reach of the disk, beside the system's own folders, and whether it may use the network."""

    read: tuple[str, ...] = Field(default=())
    write: tuple[str, ...] = Field(default=())
    network: bool = False


def confined(
    command: Sequence[str], *, read: Sequence[Path], write: Sequence[Path], network: bool, folder: Path
) -> tuple[str, ...]:
    """Return `command` as bwrap runs it, in `folder`. Raises UsageError where there is no bwrap."""
    program = next((path for path in _PROGRAMS if path.exists()), None)
    if program is None:
        raise UsageError(
            "a server is to be confined, and bwrap is not installed (package bubblewrap)",
            hint="Install it, or take confine out of the server's entry and trust it with all you can do.",
        )
    bound = _bound((*_SYSTEM, *(_NETWORK if network else ())))
    places = (*(("--ro-bind", path) for path in read), *(("--bind", path) for path in write))
    named = [part for option, path in places for part in (option, str(path), str(path))]
    shared = ("--share-net",) if network else ()
    fixed = ("--unshare-all", *shared, "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    made = ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")
    return (str(program), *fixed, *bound, *made, *named, "--chdir", str(folder), "--", *command)


def refuse_reach(name: str, paths: Sequence[Path], kept: Sequence[Path]) -> None:
    """Raise UsageError if any of the paths holds a place that is kept from every tool, or lies in one."""
    for path in paths:
        if not path.exists():
            raise UsageError(f"MCP server {name!r} is to reach {path}, which does not exist")
        for place in kept:
            if path.is_relative_to(place) or place.is_relative_to(path):
                raise UsageError(
                    f"MCP server {name!r} may not reach {path}, because of {place}",
                    hint="The home, the project's own files and its rules are out of every tool's reach.",
                )


def _bound(places: Sequence[str]) -> Iterator[str]:
    for place in map(Path, places):
        if place.is_symlink() and place.parent == Path("/"):
            yield from ("--symlink", str(place.readlink()), str(place))
        elif place.exists():
            yield from ("--ro-bind", str(place.resolve()), str(place))
