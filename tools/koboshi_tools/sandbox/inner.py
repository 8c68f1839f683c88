"""One call of a tool, inside: confine this process for good, then run what the tool is.

Order matters: nothing that comes from the tool, not even its arguments, is read before the process is confined; if any
part of that fails, the tool is not run.
"""

import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..arguments import InvalidArgumentsError
from ..calling import call_tool, failure_text
from ..definition import Page, Tool, ToolContext
from ..errors import ToolError
from ..loading import find_module, tools_in
from . import seccomp
from .landlock import NEEDED_ABI, SCOPE_ABI, Reach, landlock_abi, restrict
from .limits import die_with_parent, drop_privileges, limit
from .places import DEVICES, ETC, SYSTEM
from .probe import Mode
from .profile import SandboxProfile
from .wire import Answer, FetchAnswer, FetchAsked, Job, Start, lines, send

# Arguments, settings and the tool's own file; what a model writes is far smaller.
_MAX_JOB_BYTES = 32 << 20
_MAX_FETCH_BYTES = 16 << 20
_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a keeper's calls have in common: the kind of sandbox, where the interpreter lies, the keeper's process."""

    mode: Mode
    interpreter: tuple[Path, ...]
    keeper: int


def run_call(channel: socket.socket, start: Start, ground: Ground, *, tmp: Path, tasks: int) -> None:
    """Carry out the call that comes through `channel`, and answer there. Does not return.

    Args:
        channel: the call's own socket; every other descriptor is closed.
        start: the profile and the workspace.
        ground: what holds this process already.
        tmp: a folder that is the call's alone.
        tasks: how many tasks the limit on their number counts that are not the call's.
    """
    try:
        os.setsid()
        _keep_only(channel)
        _settle(start, tmp)
        limit(start.profile, tasks_before=tasks)
        drop_privileges()
        die_with_parent(ground.keeper)
        confine(start, ground, tmp)
        reading = lines(channel, max_bytes=_MAX_JOB_BYTES)
        answer = _answer(Job.model_validate_json(next(reading)), channel)
    except BaseException as error:
        answer = Answer(kind="failed", text=f"the sandbox: {failure_text(error)}")
    send(channel, answer)
    os._exit(0)


def confine(start: Start, ground: Ground, tmp: Path) -> None:
    """Restrict this process to what the profile allows. Raises OSError; nothing takes it back."""
    abi = landlock_abi()
    if ground.mode is Mode.LANDLOCK or abi >= NEEDED_ABI:
        restrict(_reach(start.profile, ground, workspace=Path(start.workspace), tmp=tmp), abi)
    apart = ground.mode is Mode.BWRAP
    seccomp.install(programs=start.profile.programs, only_landlock=not apart, signals=apart or abi >= SCOPE_ABI)


def _reach(profile: SandboxProfile, ground: Ground, *, workspace: Path, tmp: Path) -> Reach:
    """Return the paths of a profile. Inside bwrap everything that is there may be read."""
    system = (Path("/"),) if ground.mode is Mode.BWRAP else (*SYSTEM, *ground.interpreter)
    readable, runnable = (ETC, system) if profile.programs else ((*ETC, *system), ())
    writable = (tmp, *DEVICES)
    if profile.workspace == "write":
        writable = (*writable, workspace)
    elif profile.workspace == "read":
        readable = (*readable, workspace)
    if profile.programs:
        runnable = (*runnable, tmp, *((workspace,) if profile.workspace == "write" else ()))
    return Reach(readable=readable, runnable=runnable, writable=writable)


def _keep_only(channel: socket.socket) -> None:
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    kept = channel.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _settle(start: Start, tmp: Path) -> None:
    os.chdir(tmp if start.profile.workspace == "none" else start.workspace)
    os.environ.clear()
    os.environ.update({"PATH": _PATH, "HOME": str(tmp), "TMPDIR": str(tmp), "LANG": "C.UTF-8"})
    os.umask(0o077)


def _answer(job: Job, channel: socket.socket) -> Answer:
    try:
        tool = _tool(job)
        values = tool.arguments.bind(job.arguments)
        if tool.arguments.wants_context:
            values["context"] = ToolContext(Path(job.workspace), job.settings, lambda url: _fetch(channel, url))
        text, kind = call_tool(tool, values), "ok"
    except (ToolError, InvalidArgumentsError) as error:
        text, kind = str(error), "tool_error"
    except BaseException as error:
        # SystemExit and MemoryError too: how a tool ends is an answer.
        text, kind = failure_text(error), "failed"
    data = text.encode("utf-8", errors="replace")
    kept = data[: job.max_output_bytes].decode("utf-8", errors="ignore")
    return Answer.model_validate({"kind": kind, "text": kept, "truncated": len(data) > job.max_output_bytes})


def _tool(job: Job) -> Tool:
    module: ModuleType = find_module(job.module, file=job.file, code=job.code)
    found = [tool for tool in tools_in(module) if tool.spec.name == job.tool]
    if not found:
        raise RuntimeError(f"{job.file} no longer defines {job.tool!r}")
    if found[0].digest != job.digest:
        raise RuntimeError(f"{job.tool!r} changed since it was loaded; run it again")
    return found[0]


def _fetch(channel: socket.socket, url: str) -> Page:
    send(channel, FetchAsked(fetch=url))
    answer = FetchAnswer.model_validate_json(next(lines(channel, max_bytes=_MAX_FETCH_BYTES)))
    if answer.refused is not None:
        raise ToolError(answer.refused)
    return Page(answer.status, answer.url, answer.content_type, answer.text)
