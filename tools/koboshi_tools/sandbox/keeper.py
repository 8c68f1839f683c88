"""The keeper: a process that has everything imported and forks one sandboxed process for each call.

Forking takes milliseconds where starting an interpreter takes a third of a second. The keeper runs nothing of any tool;
it starts, watches and ends: when the other end of a call's socket is closed, when its time is over, when the processes
of the call are together too many or hold too much memory. Whatever ends, ends with its whole process group, which none
can leave. The keeper ends when its own socket is closed, so nothing outlives the process that called.
"""

import gc
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from . import inner
from .limits import adopt_orphans, hide_memory
from .probe import Mode
from .wire import Ended, Start, line

READY = b"ready"

# koboshi's own tools that run in a sandbox: imported once, not in every call.
_BEFOREHAND = ("koboshi_tools.builtin.python", "koboshi_tools.builtin.shell")
_MAX_START_BYTES = 1 << 16
# A fork bomb makes some hundred processes in this time; looking costs two hundredths of a processor.
_LOOK_S = 0.02
_COUNT_S = 0.2
# The keeper itself, bwrap's own process, and other calls of the same workspace.
_APART_TASKS = 64
_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Call:
    """A call that goes on."""

    pid: int
    channel: socket.socket
    start: Start
    tmp: Path
    deadline: float
    tasks_before: int
    counted: float = field(default_factory=time.monotonic)


def main(control_fd: int, mode: str, interpreter: Sequence[str]) -> None:
    """Serve until the other end of `control_fd` is closed; `interpreter` are the folders that hold it."""
    hide_memory()
    adopt_orphans()
    control = socket.socket(fileno=control_fd)
    for module in _BEFOREHAND:
        import_module(module)
    # What is here stays: the collector of a child would copy every page of it.
    gc.collect()
    gc.freeze()
    control.send(READY)
    Keeper(control, inner.Ground(Mode(mode), tuple(map(Path, interpreter)), os.getpid())).serve()


class Keeper:
    """The calls that go on, and the loop that watches them."""

    def __init__(self, control: socket.socket, ground: inner.Ground) -> None:
        self._control, self._ground = control, ground
        self._calls: dict[int, Call] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._woken, waking = socket.socketpair()
        self._woken.setblocking(False)
        waking.setblocking(False)
        self._waking = waking
        self._poll.register(self._woken, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking.fileno())

    def serve(self) -> None:
        """Start and end calls until nobody can ask for any more."""
        while True:
            for descriptor, _ in self._poll.poll(self._patience_ms()):
                if descriptor == self._control.fileno():
                    if not self._begin():
                        self._end_all()
                        return
                elif descriptor == self._woken.fileno():
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                elif descriptor in self._calls:
                    self._end(self._calls[descriptor], "nobody waits for it any more")
            self._reap()
            self._watch()

    def _patience_ms(self) -> int | None:
        if not self._calls:
            return None
        if any(call.start.profile.programs for call in self._calls.values()):
            return int(_LOOK_S * 1000)
        nearest = min(call.deadline for call in self._calls.values())
        return max(int((nearest - time.monotonic()) * 1000) + 1, 0)

    def _begin(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, _MAX_START_BYTES, 1)
        if not data:
            return False
        start = Start.model_validate_json(data)
        channel = socket.socket(fileno=descriptors[0])
        tmp = Path(tempfile.mkdtemp(prefix="koboshi-call-"))
        before = _tasks()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A user namespace counts its own tasks only; without one, the user's others count too.
            counted = _APART_TASKS if self._ground.mode is Mode.BWRAP else before
            inner.run_call(channel, start, self._ground, tmp=tmp, tasks=counted)
        self._calls[channel.fileno()] = Call(pid, channel, start, tmp, time.monotonic() + start.seconds, before)
        self._poll.register(channel, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        return True

    def _reap(self) -> None:
        """End the calls whose process has ended, and collect whatever else was left to this process."""
        for call in list(self._calls.values()):
            # Left unreaped until its group was ended, so that the group keeps its number.
            found = os.waitid(os.P_PID, call.pid, _ENDED)
            if found is not None:
                signalled = found.si_code != os.CLD_EXITED
                self._end(call, _explained(found.si_status, call) if signalled else None)
                continue
            # It may have no group yet, and nobody else in it.
            with suppress(ChildProcessError):
                while (orphan := os.waitid(os.P_PGID, call.pid, _ENDED)) and orphan.si_pid != call.pid:
                    os.waitpid(orphan.si_pid, 0)

    def _watch(self) -> None:
        now = time.monotonic()
        for call in list(self._calls.values()):
            profile = call.start.profile
            if now > call.deadline:
                self._end(call, f"it took longer than {call.start.seconds:g} s")
            elif profile.programs and (
                now > call.counted + _COUNT_S or _tasks() - call.tasks_before > profile.processes
            ):
                call.counted = now
                tasks, memory_bytes = _weigh(call.pid)
                if tasks > profile.processes:
                    self._end(call, f"it started more than {profile.processes} processes and threads")
                elif memory_bytes > profile.memory_mb << 20:
                    self._end(call, f"its processes took more than {profile.memory_mb} MB of memory")

    def _end(self, call: Call, reason: str | None) -> None:
        del self._calls[call.channel.fileno()]
        self._poll.unregister(call.channel)
        for kill in (os.killpg, os.kill):
            # It may not have its group yet, and it may be gone.
            with suppress(ProcessLookupError):
                kill(call.pid, signal.SIGKILL)
        # Those that lost their parent have become this process's children, so this waits for every one of them.
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-call.pid, 0)
        if reason is not None:
            # After whatever half line the call left; nobody may be reading.
            with suppress(OSError):
                call.channel.send(b"\n" + line(Ended(ended=reason)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        shutil.rmtree(call.tmp, ignore_errors=True)
        call.channel.close()

    def _end_all(self) -> None:
        for call in list(self._calls.values()):
            self._end(call, None)


def _explained(signal_number: int, call: Call) -> str:
    match signal_number:
        case signal.SIGXCPU:
            return f"it used more than {call.start.profile.cpu_s} s of processor time"
        case signal.SIGSYS:
            return "it made a system call in a way that is not allowed"
        case _:
            return f"it was ended by {signal.Signals(signal_number).name}"


def _tasks() -> int:
    """Return how many tasks the machine has, from one line."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[3].partition("/")[2])


def _weigh(group: int) -> tuple[int, int]:
    """Return how many tasks a process group has, and the bytes of memory that they hold."""
    tasks = pages = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name of a program may hold anything, brackets too.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != b"Z":
            tasks, pages = tasks + int(fields[17]), pages + int(fields[21])
    return tasks, pages * _PAGE_BYTES
