"""Run calls in sandboxes: one keeper for all where Landlock confines, one for each workspace where bwrap does.

Covered, in each kind of sandbox: the home folder, koboshi's home, the project's own files, sockets, other processes and
the network are out of reach; the system is read-only; the workspace is read-only unless the effect class says
otherwise; `/tmp` and the environment are the call's own; wall time, processor time, memory, processes, open files, file
size and output are bounded; when a call ends, all its processes have ended.

Not covered: errors of the kernel itself; how much the workspace holds in all; side channels, as how long something
takes. Under Landlock alone: that a file outside exists and how large it is can be seen, `/tmp` is a folder on disk
without a bound, and no program can change the mode of a file. Processes of one workspace see each other under bwrap.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..errors import NoSandboxError
from .bubblewrap import bwrap, wrapped
from .places import interpreter_places, module_path, refuse_overlap
from .probe import Mode, probe
from .profile import SandboxProfile
from .wire import Answer, Ended, FetchAnswer, FetchAsked, Job, Start, TooMuchError, lines, message, send

# As many as runs go on at once by default; the oldest that has no call makes room for another.
_MAX_KEEPERS = 16
_START_S = 60.0
# How long the keeper may take to end what is left of a call; it is told at once.
_CLOSE_S = 2.0
_ESCAPED = 6
_SPARE_BYTES = 1 << 16

Fetch = Callable[[str], FetchAnswer]


class CallTimeoutError(Exception):
    """The call's time was over."""


class Running:
    """A call that goes on in another thread, and can be ended from here."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._channel: socket.socket | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the call, or keep it from beginning."""
        with self._guard:
            self._stopped = True
            if self._channel is not None:
                with suppress(OSError):
                    self._channel.shutdown(socket.SHUT_WR)

    def begin(self, channel: socket.socket) -> bool:
        """Say over which socket the call goes; False if it was stopped before."""
        with self._guard:
            self._channel = channel
            return not self._stopped


class _Keeper:
    """A keeper's process and the socket that it is asked through."""

    def __init__(self, mode: Mode, workspace: Path | None, access: str) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.calls = 0
        with theirs:
            command = _keeper_command(mode, theirs.fileno(), workspace, access)
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self._await_ready(mode)

    def _await_ready(self, mode: Mode) -> None:
        self.control.settimeout(_START_S)
        try:
            ready = self.control.recv(64)
        except OSError:
            ready = b""
        self.control.settimeout(None)
        assert self._process.stderr is not None
        if not ready:
            self.close()
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise NoSandboxError(
                f"the sandbox ({mode.value}) does not start: {said[-1] if said else 'no reason given'}",
                hint="See: koboshi tools list",
            )
        self._process.stderr.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def begin(self, start: Start) -> socket.socket:
        """Start the process of a call, and return the socket to it. Raises OSError if the keeper is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            data = json.dumps(start.model_dump(mode="json")).encode("ascii")
            try:
                socket.send_fds(self.control, [data], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    def close(self) -> None:
        """End the keeper and every call of it."""
        self.control.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Sandbox:
    """Every keeper of this process; `mode` None takes the best that the machine has. Safe to use from many threads."""

    def __init__(self, mode: Mode | None = None) -> None:
        self._mode = mode
        self._keepers: dict[tuple[object, ...], _Keeper] = {}
        self._guard = threading.Lock()

    @property
    def mode(self) -> Mode:
        """What confines calls here. Raises NoSandboxError if nothing can."""
        found = probe()
        wanted = self._mode or found.mode
        if wanted is None or wanted in found.missing:
            reasons = "; ".join(f"{mode.value}: {reason}" for mode, reason in found.missing.items())
            raise NoSandboxError(f"this machine has no sandbox ({reasons})", hint="Install bubblewrap.")
        return wanted

    def call(self, job: Job, profile: SandboxProfile, *, seconds: float, fetch: Fetch, running: Running) -> Answer:
        """Carry out a call, and return when no process of it is left.

        Args:
            job: the call and its tool.
            profile: what it may do.
            seconds: after which it is ended; starting a keeper does not count.
            fetch: answers when the tool asks for a page.
            running: ends it from another thread.

        Raises:
            NoSandboxError: nothing here can confine it; it was not run.
            CallTimeoutError: its time was over.
        """
        keeper = self._take(profile, Path(job.workspace))
        try:
            # This side ends the call in time; the keeper would, were this side stopped.
            channel = keeper.begin(Start(profile=profile, workspace=job.workspace, seconds=seconds + _CLOSE_S))
        except OSError as error:
            self._give_back(keeper)
            return Answer(kind="failed", text=f"the sandbox is gone: {error.strerror}")
        try:
            with channel:
                if not running.begin(channel):
                    return Answer(kind="failed", text="it was stopped before it began")
                try:
                    return _converse(channel, job, seconds=seconds, fetch=fetch)
                finally:
                    _await_end(channel)
        finally:
            self._give_back(keeper)

    def prepare(self, profile: SandboxProfile, workspace: Path) -> None:
        """Start what a call with this profile needs, so that the first one does not wait for it."""
        self._give_back(self._take(profile, workspace))

    def close(self) -> None:
        """End every keeper."""
        with self._guard:
            keepers, self._keepers = list(self._keepers.values()), {}
        for keeper in keepers:
            keeper.close()

    def _take(self, profile: SandboxProfile, workspace: Path) -> _Keeper:
        """Return a keeper that holds such calls, started if there is none."""
        mode, workspace = self.mode, workspace.resolve()
        refuse_overlap(workspace)
        key: tuple[object, ...] = (mode,)
        if mode is Mode.BWRAP:
            # A folder that was made anew under the same name is another one.
            found = os.stat(workspace)
            key = (mode, workspace, found.st_dev, found.st_ino, profile.workspace)
        with self._guard:
            keeper = self._keepers.get(key)
            if keeper is None or not keeper.alive:
                self._make_room()
                keeper = _Keeper(mode, workspace, profile.workspace)
            # The last in order is the last that was used.
            self._keepers.pop(key, None)
            self._keepers[key] = keeper
            keeper.calls += 1
            return keeper

    def _give_back(self, keeper: _Keeper) -> None:
        with self._guard:
            keeper.calls -= 1

    def _make_room(self) -> None:
        idle = [key for key, keeper in self._keepers.items() if keeper.calls == 0]
        for key in idle[: max(len(self._keepers) - _MAX_KEEPERS + 1, 0)]:
            self._keepers.pop(key).close()


@cache
def default_sandbox() -> Sandbox:
    """Return the sandbox of this process."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


def _keeper_command(mode: Mode, control_fd: int, workspace: Path | None, access: str) -> list[str]:
    start = f"import sys; sys.path[:] = {list(module_path())!r}; from koboshi_tools.sandbox import keeper"
    places = [str(place) for place in interpreter_places()]
    # Without `site`: it would take time, and run whatever a `.pth` file says.
    command = [sys.executable, "-I", "-S", "-c", f"{start}; keeper.main({control_fd}, {mode.value!r}, {places!r})"]
    program = bwrap()
    if mode is Mode.LANDLOCK or program is None:
        return command
    return wrapped(program, command, workspace=workspace, access=access)  # type: ignore[arg-type]


def _converse(channel: socket.socket, job: Job, *, seconds: float, fetch: Fetch) -> Answer:
    deadline = time.monotonic() + seconds
    limit = _ESCAPED * job.max_output_bytes + _SPARE_BYTES
    try:
        channel.settimeout(seconds)
        send(channel, job)
        for text in lines(channel, max_bytes=limit):
            match message(text):
                case Answer() as answer:
                    return answer
                case FetchAsked(fetch=url):
                    send(channel, fetch(url))
                case Ended(ended=reason):
                    return Answer(kind="failed", text=f"the call was ended: {reason}")
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
    except TimeoutError:
        raise CallTimeoutError from None
    except TooMuchError:
        return Answer(kind="failed", text=f"the call was ended: it gave more than {limit} bytes")
    except OSError as error:
        return Answer(kind="failed", text=f"the sandbox is gone: {error.strerror}")
    return Answer(kind="failed", text="the call ended without an answer")


def _await_end(channel: socket.socket) -> None:
    """Say that nobody waits for the call any more, and return when the keeper has ended all that is left of it."""
    with suppress(OSError):
        channel.shutdown(socket.SHUT_WR)
        channel.settimeout(_CLOSE_S)
        deadline = time.monotonic() + _CLOSE_S
        while channel.recv(_SPARE_BYTES) and time.monotonic() < deadline:
            pass
