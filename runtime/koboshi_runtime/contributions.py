"""What a project would have this machine do: its configuration, rules, tools, checks, MCP servers, command checkers.

Each contribution has a digest; all of them together are what `trust` pins. Covered: every file of `tools/`, `checks/`
and the rule files, byte by byte and with its permission to be executed; `koboshi.toml` whole; each MCP server's entry
with the files of the project that its command line names, and what was accepted of its tools; what task files say to
the programs of `checks/`. Links in these folders are refused, because what they lead to is not the project's.

Not covered: the prompts of tasks and the files of `workspace/`, which are data; programs and libraries of the machine
that tools and servers use; a file that is changed after it was looked at.
"""

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from koboshi_tools import Frozen, UsageError, hash_file, hash_value
from koboshi_tools.mcp import FILE_NAME as MCP_FILE
from koboshi_tools.mcp import LOCK_FILE, Listed, McpServer, StdioServer, load_servers, read_pins

from .checkers import CommandChecker
from .project import FILE_NAME, Project
from .tasks import parse_task

Kind = Literal["config", "tool settings", "rules", "tool", "check", "MCP server", "MCP tools", "command checker"]

# Every line of a task file that has such a checker holds this word; the others need not be read.
_COMMAND = b'"command"'


class Contribution(Frozen):
    """One thing that a project brings; `name` is its path or its own name, `detail` what there is to say of it."""

    kind: Kind
    name: str
    detail: str
    digest: str


def contributions(project: Project) -> tuple[Contribution, ...]:
    """Return all that the project brings, nothing of it run. Raises UsageError where something cannot be pinned."""
    found = [
        *_config(project),
        *(_file(project, "rules", path) for folder in project.policies for path in _files(folder)),
        *(_file(project, "tool", path) for path in _files(project.tools_folder)),
        *(_file(project, "check", path) for path in _files(project.checks_folder)),
        *(_server(project, server) for server in load_servers(project.root / MCP_FILE)),
        *(_accepted(server, pinned) for server, pinned in read_pins(project.root / LOCK_FILE).items()),
        *_command_checkers(project),
    ]
    return tuple(sorted(found, key=lambda one: (one.kind, one.name)))


def acts(found: Iterable[Contribution]) -> bool:
    """Say whether any of it could run something or widen what may run; a prompt and budgets alone do neither."""
    return any(one.kind != "config" for one in found)


def whole_digest(found: Iterable[Contribution]) -> str:
    """Return the hash of all of it, which is what a person agrees to."""
    return hash_value([one.model_dump(mode="json", exclude={"detail"}) for one in found])


def _config(project: Project) -> Iterator[Contribution]:
    path = project.root / FILE_NAME
    if not path.exists():
        return
    yield Contribution(kind="config", name=FILE_NAME, detail=_size(path), digest=hash_file(path))
    for tool, settings in project.tool_settings.items():
        detail = ", ".join(f"{key} = {value!r}" for key, value in settings.items())
        yield Contribution(kind="tool settings", name=tool, detail=detail, digest=hash_value(settings))
    for check in project.checks:
        if isinstance(check, CommandChecker):
            yield _command(check, FILE_NAME)


def _files(path: Path) -> list[Path]:
    """Return the file `path`, or the files below the folder, in order; a link is refused wherever it stands."""
    if path.is_symlink():
        raise _link(path)
    if not path.is_dir():
        return [path] if path.exists() else []
    found: list[Path] = []
    for folder, folders, files in os.walk(path, onerror=_unreadable):
        inner = [Path(folder) / name for name in (*folders, *files)]
        if links := sorted(entry for entry in inner if entry.is_symlink()):
            raise _link(links[0])
        found += [Path(folder) / name for name in files]
    return sorted(found)


def _link(path: Path) -> UsageError:
    return UsageError(f"{path} is a link, and what it leads to cannot be pinned", hint="Put a copy in its place.")


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error


def _file(project: Project, kind: Kind, path: Path) -> Contribution:
    executable = bool(path.stat().st_mode & 0o111)
    digest = hash_value([hash_file(path), executable])
    detail = f"{_size(path)}, executable" if executable else _size(path)
    return Contribution(kind=kind, name=str(path.relative_to(project.root)), detail=detail, digest=digest)


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"


def _server(project: Project, server: McpServer) -> Contribution:
    if not isinstance(server, StdioServer):
        return Contribution(kind="MCP server", name=server.name, detail=server.url, digest=_digest(server, []))
    line = shlex.join([server.command, *server.args])
    told = f" with {', '.join(server.env)} in its environment" if server.env else ""
    told += ", confined" if server.koboshi.confine else ", not confined"
    files = sorted(_named_files(project, server))
    return Contribution(kind="MCP server", name=server.name, detail=line + told, digest=_digest(server, files))


def _accepted(server: str, pinned: Listed) -> Contribution:
    detail = ", ".join(definition.name for definition in pinned.definitions)
    return Contribution(kind="MCP tools", name=server, detail=detail, digest=hash_value(pinned.model_dump(mode="json")))


def _digest(server: McpServer, files: Iterable[Path]) -> str:
    return hash_value([server.model_dump(mode="json"), [hash_file(path) for path in files]])


def _named_files(project: Project, server: StdioServer) -> set[Path]:
    """Return the files of the project, other than those of its workspace, that a server's command line names."""
    start = project.workspace if server.cwd is None else project.root / server.cwd
    named = {Path(os.path.normpath(start / part)) for part in (server.command, *server.args)}
    inside = {path for path in named if path.is_relative_to(project.root) and path.is_file()}
    return {path for path in inside if not path.is_relative_to(project.workspace)}


def _command_checkers(project: Project) -> Iterator[Contribution]:
    seen: set[str] = set()
    for path in sorted(project.tasks_folder.glob("*.jsonl")):
        for checker in _commands_of(path):
            found = _command(checker, f"tasks/{path.name}")
            if found.digest not in seen:
                seen.add(found.digest)
                yield found


def _commands_of(path: Path) -> Iterator[CommandChecker]:
    for line in path.read_bytes().split(b"\n"):
        if _COMMAND not in line:
            continue
        try:
            checker = parse_task(line).checker
        except ValueError:
            # A line that is no task is refused when its file is loaded; until then it runs nothing.
            continue
        if isinstance(checker, CommandChecker):
            yield checker


def _command(checker: CommandChecker, where: str) -> Contribution:
    line = shlex.join([checker.file, *checker.arguments])
    digest = hash_value(checker.model_dump(mode="json"))
    return Contribution(kind="command checker", name=f"{where}: {line}", detail="run by checks", digest=digest)
