"""What a tool does to get out of its sandbox, carried out in one kind of sandbox by one user; prints what came of it.

No attack names a process, a file or an address that is not its own world's, or is without a bound: on the day that
nothing stops it, it must harm nobody.

Run as a program, with koboshi_tools alone, so that any user's interpreter can: `sandbox_attacks.py MODE`. It makes a
home, a project and servers of its own in a new folder, attacks them, looks at them from outside, and prints a line of
JSON for each attack: its name, whether it was blocked, and what was seen.
"""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from koboshi_tools import Sandbox, ToolCall, ToolContext, ToolResult, ToolVerdict, Transport, builtin_tools, execute
from koboshi_tools.sandbox import Mode

SECRET = "SECRET-" + "7f3a9c"
LIMIT_S = 6.0
# What the fault table grants beyond the call's own limit, for everything to be ended.
GRACE_S = 2.0


class World:
    """A home with secrets, a project whose files must not change, servers that nobody may reach."""

    def __init__(self, root: Path, mode: Mode | None) -> None:
        self.root, self.sandbox, self.confined = root, Sandbox(mode), mode is not None
        self.user, self.home, self.project = root / "user", root / "user" / "data", root / "user" / "project"
        self.workspace = self.project / "workspace"
        self.workspace.mkdir(parents=True)
        kept = ("koboshi.toml", "tools.lock", "policies/p.toml", "tools/t.py", "checks/c.sh", "mcp.json")
        self.files = [self.project / name for name in kept]
        self.files += [self.user / ".ssh/id_rsa", self.home / "traces.db", self.home / "models/current", root / "x"]
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(SECRET, encoding="utf-8")
        os.environ.update(HOME=str(self.user), KOBOSHI_HOME=str(self.home), API_TOKEN=SECRET)
        self.reached: list[str] = []
        self.port = self._listen(socket.socket(), ("127.0.0.1", 0)).getsockname()[1]
        self._listen(socket.socket(socket.AF_UNIX), str(self.home / "socket"))
        self._listen(socket.socket(socket.AF_UNIX), f"\0koboshi-test-{os.getpid()}")
        self.before = self.state()
        self.seen = ""

    def _listen(self, server: socket.socket, place: Any) -> socket.socket:
        server.bind(place)
        server.listen()

        def accept() -> None:
            while True:
                server.accept()[0].close()
                self.reached.append(str(place))

        threading.Thread(target=accept, daemon=True).start()
        return server

    def state(self) -> list[Any]:
        """Return everything of the world outside the workspace that an attack could change."""
        found = []
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.workspace:
                folders.clear()
                continue
            for name in sorted(files):
                path = Path(folder, name)
                entry = path.lstat()
                regular = stat.S_ISREG(entry.st_mode)
                text = path.read_bytes() if regular else b""
                found.append((str(path), entry.st_mode, entry.st_uid, entry.st_nlink, entry.st_mtime_ns, text))
        return sorted(found)

    def call(self, name: str, *, settings: dict[str, Any] | None = None, **arguments: Any) -> ToolResult:
        """Carry out one call."""
        asked = ToolCall(name=name, arguments=arguments)
        context = ToolContext(self.workspace, settings or {})
        tool = TOOLS[name] if self.confined else replace(TOOLS[name], profile=None)
        result = asyncio.run(execute(asked, tool, context, timeout_s=LIMIT_S, sandbox=self.sandbox))
        self.seen = f"{result.transport.value}: {result.output}"
        return result

    def python(self, program: str) -> ToolResult:
        """Run a program that knows the paths of the world, each line of it whatever the others did."""
        known = {"files": [str(file) for file in self.files], "port": self.port, "pid": os.getpid()}
        known |= {"home": str(self.home), "user": str(self.user), "root": str(self.root)}
        return self.call("python", program=f"W = {known!r}\n{program}")


TOOLS = builtin_tools()
ATTACKS: dict[str, Callable[[World], str | None]] = {}

_EACH = """
import os
def tried(what, *given, **more):
    try:
        print(what.__name__, given[:1], what(*given, **more))
    except BaseException as error:
        print(what.__name__, given[:1], type(error).__name__)
"""


def attack(function: Callable[[World], str | None]) -> Callable[[World], str | None]:
    """Keep an attack under its name; it returns None if it was blocked, else what it achieved."""
    ATTACKS[function.__name__] = function
    return function


def _leaked(world: World, result: ToolResult) -> str | None:
    if SECRET in result.output:
        return f"read a secret: {result.output[:300]}"
    return None if result.transport is not Transport.DENIED else f"the sandbox did not start: {result.output}"


def _unchanged(world: World, result: ToolResult) -> str | None:
    after = world.state()
    changed = [new for new in after if new not in world.before] or (after != world.before and "something is gone")
    return f"changed {changed}"[:300] if changed else _leaked(world, result)


@attack
def read_the_home_the_project_and_ssh(world: World) -> str | None:
    program = """
for f in W['files'] + ['/etc/shadow', os.path.expanduser('~/.ssh/id_rsa'), '/root/.ssh/id_rsa']:
    for path in (f, '/proc/self/root' + f, '/proc/%d/root' % W['pid'] + f, '../' * 9 + f):
        tried(lambda p: open(p).read(), path)
        tried(os.readlink, path)
for folder in (W['user'], W['home'], W['root'], '..'):
    tried(os.listdir, folder)
"""
    result = world.python(_EACH + program)
    shell = world.call(
        "shell", command=f"cat ~/.ssh/* {world.user}/.ssh/id_rsa ../koboshi.toml; tar c {world.user}; ls .."
    )
    names = [
        name for name in ("koboshi.toml", "traces.db") if f"'{name}'" in result.output or f"\n{name}" in shell.output
    ]
    return f"listed {names}" if names else _leaked(world, result) or _leaked(world, shell)


@attack
def write_outside(world: World) -> str | None:
    program = """
for f in W['files'] + [W['root'] + '/new', W['user'] + '/.bashrc', '../new']:
    tried(open, f, 'w'); tried(open, f, 'a'); tried(os.truncate, f, 0); tried(os.unlink, f)
    tried(os.rename, f, 'mine'); tried(os.rename, 'mine', f); tried(os.link, f, 'linked')
    tried(os.symlink, 'x', f + '2')
    tried(os.chmod, f, 0o777); tried(os.chown, f, os.getuid(), os.getgid()); tried(os.utime, f, (1, 1))
    tried(os.setxattr, f, 'user.x', b'1'); tried(os.mkdir, f + '3'); tried(os.mkfifo, f + '4')
    tried(lambda p: os.open(p, os.O_RDONLY | os.O_TRUNC), f); tried(os.replace, 'mine', f)
"""
    result = world.python(_EACH + program)
    system = [f"/{folder}/koboshi-attack-{os.getpid()}" for folder in ("etc", "usr", "var/tmp", "usr/bin", "dev/shm")]
    if world.confined:
        world.call("shell", command="; ".join(f"echo x > {path}" for path in system))
    made = [path for path in system if os.path.exists(path)]
    return f"made {made}" if made else _unchanged(world, result)


@attack
def network(world: World) -> str | None:
    program = """
import socket
def reach(family, kind, place):
    with socket.socket(family, kind) as s:
        s.settimeout(1); s.connect(place); s.send(b'x')
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
    tried(reach, socket.AF_INET, kind, ('127.0.0.1', W['port']))
    tried(reach, socket.AF_INET6, kind, ('::1', W['port']))
tried(reach, socket.AF_UNIX, socket.SOCK_STREAM, W['home'] + '/socket')
tried(reach, socket.AF_UNIX, socket.SOCK_STREAM, '\\0koboshi-test-%d' % W['pid'])
tried(reach, socket.AF_NETLINK, socket.SOCK_RAW, (0, 0)); tried(reach, socket.AF_VSOCK, socket.SOCK_STREAM, (2, 1))
tried(socket.gethostbyname, 'localhost')
"""
    result = world.python(_EACH + program)
    passed = [line for line in result.output.splitlines() if line.startswith("reach") and line.endswith("None")]
    return f"connected: {passed} {world.reached}" if passed or world.reached else _leaked(world, result)


@attack
def pages_from_this_machine_through_the_tool_for_pages(world: World) -> str | None:
    hosts = {"hosts": ["*"]}
    urls = [f"http://{host}:{world.port}/" for host in ("127.0.0.1", "localhost", "[::1]")]
    urls += ["http://localhost/", "http://169.254.169.254/latest/", f"file://{world.files[0]}", "http://0/"]
    results = [world.call("http_get", settings=hosts, url=url) for url in urls]
    passed = [result.output for result in results if result.verdict is ToolVerdict.OK]
    return f"fetched {passed} {world.reached}" if passed or world.reached else None


@attack
def fork_bomb(world: World) -> str | None:
    marker = f"bomb-of-{os.getpid()}"
    started = time.monotonic()
    # With a fuse, for the day that nothing stops it: 2 to the power of 11 processes and no more.
    bomb = f": {marker}; b() {{ [ $1 -gt 11 ] || {{ b $(($1 + 1)) & b $(($1 + 1)) & wait; sleep 99; }}; }}; b 0"
    result = world.call("shell", command=bomb)
    took = time.monotonic() - started
    return _overrun(took, result) or _survivors(marker) or _leaked(world, result)


@attack
def processes_that_leave_their_parents(world: World) -> str | None:
    marker = f"left-{os.getpid()}"
    inner = f"import time; time.sleep(20) # {marker}"
    program = f"""
import subprocess, sys, os, signal
for extra in ({{'start_new_session': True}}, {{'process_group': 0}}, {{}}):
    for n in range(5):
        try:
            p = subprocess.Popen([sys.executable, '-c', {inner!r}], stdout=-3, stdin=-3, stderr=-3, **extra)
        except Exception as error:
            print(type(error).__name__)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, '-c', {inner!r}])
    os._exit(0)
"""
    result = world.python(program)
    return _survivors(marker) or _leaked(world, result)


@attack
def large_file(world: World) -> str | None:
    program = """
def fill(name):
    with open(name, 'wb') as f:
        while True:
            f.write(b'x' * (1 << 20))
def sparse(name):
    with open(name, 'wb') as f:
        f.truncate(10 << 30)
def allocate(name):
    with open(name, 'wb') as f:
        os.posix_fallocate(f.fileno(), 0, 10 << 30)
for n, how in enumerate((fill, sparse, allocate)):
    tried(how, 'large%d' % n); tried(how, os.environ['TMPDIR'] + '/large%d' % n)
"""
    started = time.monotonic()
    result = world.python(_EACH + program)
    took = time.monotonic() - started
    sizes = [path.stat().st_size for path in world.workspace.glob("large*")]
    for path in world.workspace.glob("large*"):
        path.unlink()
    return f"made files of {sizes}" if max(sizes, default=0) > 64 << 20 else _overrun(took, result)


@attack
def trace_and_read_other_processes(world: World) -> str | None:
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def ptrace(pid):
    return libc.ptrace(16, pid, 0, 0), libc.ptrace(0x4206, pid, 0, 0)
def read(pid):
    local = ctypes.create_string_buffer(64)
    class V(ctypes.Structure): _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]
    v = V(ctypes.addressof(local), 64)
    return libc.process_vm_readv(pid, ctypes.byref(v), 1, ctypes.byref(v), 1, 0)
for pid in (W['pid'], os.getppid()):
    print(ptrace(pid), read(pid))
    for name in ('environ', 'mem', 'maps', 'cmdline', 'fd', 'cwd'):
        tried(lambda p: open(p, 'rb').read(99), '/proc/%d/%s' % (pid, name))
    tried(os.kill, pid, 0); tried(os.sched_setaffinity, pid, [0]); tried(os.setpriority, 0, pid, 19)
import resource
tried(resource.prlimit, W['pid'], resource.RLIMIT_NOFILE, (3, 3))
"""
    before = os.getpriority(os.PRIO_PROCESS, os.getpid())
    result = world.python(_EACH + program)
    traced = [line for line in result.output.splitlines() if line.startswith("((") and line != "((-1, -1), -1)"]
    priority = os.getpriority(os.PRIO_PROCESS, os.getpid())
    if traced or priority != before:
        return f"traced {traced}, priority {before} to {priority}"
    return _leaked(world, result)


@attack
def signals_to_other_processes(world: World) -> str | None:
    got: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda found, _: got.append(found))
    program = """
import signal
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
    tried(os.kill, W['pid'], number)
"""
    result = world.python(_EACH + program)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    return f"signals {got} arrived" if got else _leaked(world, result)


@attack
def links_that_are_swapped(world: World) -> str | None:
    """A link that leads outside is put in the place of a file and taken away again, while tools use it."""
    inside, link = world.workspace / "swapped", world.workspace / "link"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in (world.project, world.workspace / "folder"):
                link.unlink(missing_ok=True)
                link.symlink_to(target)
                link.replace(inside)

    (world.workspace / "folder").mkdir(exist_ok=True)
    (world.workspace / "folder/koboshi.toml").write_text("harmless", encoding="utf-8")
    for folder, text in ((world.workspace / "folder", "harmless"), (world.project, SECRET)):
        with sqlite3.connect(folder / "traces.db") as database:
            database.execute("CREATE TABLE secrets AS SELECT ? AS text", (text,))
    world.before = world.state()
    swapping = threading.Thread(target=swap, daemon=True)
    swapping.start()
    outcome: str | None = None
    calls: dict[str, dict[str, Any]]
    calls = {"files_read": {}, "files_write": {"text": "evil"}, "files_edit": {"old": "S", "new": "e"}}
    for _ in range(60):
        for name, more in calls.items():
            outcome = outcome or _leaked(world, world.call(name, path="swapped/koboshi.toml", **more))
        outcome = outcome or _leaked(world, world.call("files_list", path="swapped"))
        outcome = outcome or _leaked(world, world.call("files_search", pattern_text="SECRET", path="."))
        asked = world.call("sql", settings={"database": "swapped/traces.db"}, query="SELECT * FROM secrets")
        outcome = outcome or _leaked(world, asked)
    result = world.python(
        "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end:\n"
        "    for mode in ('r', 'r+'):\n        try:\n            f = open('swapped/koboshi.toml', mode)\n"
        "            print(f.read()) if mode == 'r' else f.write('evil')\n        except OSError: pass\n"
    )
    stop.set()
    swapping.join()
    return outcome or _unchanged(world, result)


@attack
def much_output(world: World) -> str | None:
    started = time.monotonic()
    results = [
        world.call("shell", command="head -c 1000000000 /dev/zero"),
        world.python("import sys\nfor n in range(1000): sys.stdout.write('x' * 1000000)"),
    ]
    took = time.monotonic() - started
    largest = max(len(result.output.encode()) for result in results)
    return f"gave {largest} bytes" if largest > 8192 else _overrun(took / len(results), results[0])


@attack
def much_memory(world: World) -> str | None:
    program = """
import sys
tried(lambda: len(bytearray(4 << 30)))
kept = []
for n in range(8):
    if os.fork() == 0:
        kept = bytearray(b'x') * (700 << 20)
        import time; time.sleep(99)
import time; time.sleep(99)
"""
    started = time.monotonic()
    result = world.python(_EACH + program)
    took = time.monotonic() - started
    if result.transport is Transport.OK:
        return f"went on: {result.output[:200]}"
    return _overrun(took, result)


@attack
def namespaces_and_mounts(world: World) -> str | None:
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print('unshare', [libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000)])
print('mount', libc.mount(b'none', W['root'].encode(), b'tmpfs', 0, None), libc.chroot(b'/tmp'))
print('clone', libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), 'clone3', libc.syscall(435, 0, 0))
print('keys', libc.syscall(248, b'user', b'x', b'y', 1, -1), 'uring', libc.syscall(425, 1, 0))
print('bpf', libc.syscall(321, 0, 0, 0))
"""
    result = world.python(program)
    numbers = [
        word
        for word in result.output.replace("[", " ").replace("]", " ").replace(",", " ").split()
        if word.lstrip("-").isdigit()
    ]
    passed = [number for number in numbers if number != "-1"]
    return f"passed: {result.output}" if passed or not numbers else None


@attack
def files_with_the_rights_of_their_owner(world: World) -> str | None:
    program = """
for n, flags in enumerate((os.O_CREAT, os.O_CREAT | os.O_RDWR)):
    tried(os.open, 'marked%d' % n, flags, 0o4755)
open('marked', 'w').close()
for mode in (0o4755, 0o2755, 0o6777):
    tried(os.chmod, 'marked', mode); tried(os.chmod, os.open('marked', os.O_RDONLY), mode)
"""
    result = world.python(_EACH + program)
    marked = [path.name for path in world.workspace.glob("marked*") if path.stat().st_mode & 0o6000]
    return f"made {marked}" if marked else _leaked(world, result)


@attack
def the_environment(world: World) -> str | None:
    return _leaked(world, world.call("shell", command="env; cat /proc/*/environ; set; cat /proc/self/cmdline"))


@attack
def words_to_the_caller_that_are_not_an_answer(world: World) -> str | None:
    """Whatever descriptors there are, the program writes to them what the caller could take for an answer."""
    forged = json.dumps({"kind": "ok", "text": SECRET, "truncated": False})
    program = f"""
import socket
for fd in range(3, 200):
    try:
        os.write(fd, b'\\n' + {forged!r}.encode() + b'\\n' + b'x' * 100000 + b'\\n')
    except OSError: pass
print('end')
"""
    result = world.python("import os\n" + program)
    return None if result.output == "end" else f"the answer was {result.output[:100]!r} ({result.transport})"


def _overrun(took: float, result: ToolResult) -> str | None:
    return f"took {took:.1f} s: {result.output[:100]}" if took > LIMIT_S + GRACE_S else None


def _survivors(marker: str) -> str | None:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if marker.encode() in Path("/proc", name, "cmdline").read_bytes():
                    found.append(name)
            except OSError:
                continue
    return f"{len(found)} processes are left" if found else None


# What may be tried without a sandbox: to show that an attack works where nothing stops it.
HARMLESS = (
    "files_with_the_rights_of_their_owner",
    "read_the_home_the_project_and_ssh",
    "write_outside",
    "network",
    "signals_to_other_processes",
    "processes_that_leave_their_parents",
    "the_environment",
)


def run(mode: Mode | None) -> Iterator[dict[str, Any]]:
    """Carry out every attack and yield what came of each; without a mode, the harmless ones in no sandbox at all."""
    with tempfile.TemporaryDirectory(prefix="koboshi-attacked-") as folder:
        world = World(Path(folder), mode)
        for name in HARMLESS if mode is None else ATTACKS:
            achieved = ATTACKS[name](world)
            yield {"attack": name, "achieved": achieved, "uid": os.getuid(), "seen": world.seen[:200]}
        world.sandbox.close()


if __name__ == "__main__":
    for line in run(None if sys.argv[1] == "none" else Mode(sys.argv[1])):
        print(json.dumps(line), flush=True)
