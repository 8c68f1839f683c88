"""What is well here and what is not, each with the command that mends it.

Looked at are the store, the disk, the graphics card and llama.cpp's build, the sandbox, and what calls rest on. Nothing
is loaded and nothing written; each check looks at one thing and takes no longer than some seconds. What a model
needs is `estimate`.
"""

import shutil
import sqlite3
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from koboshi_tools import Frozen, KoboshiError
from koboshi_tools.sandbox import probe

from ..home import Home
from ..store import Store
from ..store.migrations import SCHEMA_VERSION
from ..worker import kernels
from .gc import sizes

_NVIDIA, _AMD = Path("/dev/nvidia0"), Path("/dev/kfd")
_BUILDS = {
    _NVIDIA: ("NVIDIA", "cuda", "-DGGML_CUDA=on"),
    _AMD: ("AMD", "hip", "-DGGML_HIP=on"),
}
_OTHER_BACKENDS = ("vulkan", "sycl", "metal")
_READ_BYTES = 500_000_000
"""A store up to this size is read whole within some seconds."""

_LEAST_FREE_BYTES = 2_000_000_000
"""Below it a night of the smallest model that is trained here does not fit."""


class Check(Frozen):
    """One thing that was looked at: `state` is ok, warn or bad, `said` what was found, `run` the way out, if any."""

    what: str
    state: Literal["ok", "warn", "bad"]
    said: str
    run: str = ""


def checks(home: Home, *, gpu_layers: int, budget_gb: float) -> tuple[Check, ...]:
    """Return everything that was looked at, in the order in which it should be mended."""
    return (
        _store(home),
        _disk(home, budget_gb),
        gpu(_devices(), _backends(), gpu_layers),
        _kernels(),
        _sandbox(),
        _sqlite(),
        _grammar(),
        _mcp(),
    )


def gpu(devices: Iterable[Path], backends: Iterable[str], gpu_layers: int) -> Check:
    """Return how the graphics card and the build of llama.cpp stand to each other."""
    built = set(backends)
    found = [_BUILDS[device] for device in devices]
    if not found:
        return Check(what="gpu", state="ok", said="none found, llama.cpp works on the processor")
    name, backend, flag = found[0]
    if not built & {backend, *_OTHER_BACKENDS}:
        wanted = f"llama-cpp-python=={version('llama-cpp-python')}"
        return Check(
            what="gpu",
            state="warn",
            said=f"GPU found ({name}), llama.cpp built for CPU",
            run=f'CMAKE_ARGS="{flag}" pip install --force-reinstall --no-cache-dir --no-deps {wanted}',
        )
    if gpu_layers == 0:
        return Check(
            what="gpu",
            state="warn",
            said=f"GPU found ({name}), and no layer of the model is put on it",
            run="KOBOSHI_WORKER__GPU_LAYERS=999 koboshi doctor --tune",
        )
    return Check(what="gpu", state="ok", said=f"GPU found ({name}), {gpu_layers} layers on it")


def _devices() -> list[Path]:
    return [device for device in _BUILDS if device.exists()]


def _backends() -> list[str]:
    """Return what llama.cpp was built for, by the libraries that it came with; nothing is loaded."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return []
    libraries = Path(spec.origin).parent.glob("lib/libggml-*")
    return [library.name.removeprefix("libggml-").partition(".")[0] for library in libraries]


def _store(home: Home) -> Check:
    if not home.traces.exists():
        return Check(what="store", state="ok", said="none yet: the first run makes it")
    try:
        store = Store.read_only(home.traces)
        if (size := home.traces.stat().st_size) > _READ_BYTES:
            return Check(what="store", state="ok", said=f"{size / 1e9:.1f} GB, not read whole", run="koboshi db check")
        report = store.check()
    except KoboshiError as error:
        return Check(
            what="store", state="bad", said=str(error), run=(error.hint or "").partition("`")[2].partition("`")[0]
        )
    if not report.ok:
        return Check(what="store", state="bad", said=report.problems[0], run="koboshi restore FOLDER")
    said = f"sound: schema {SCHEMA_VERSION}, {report.runs} runs, {report.file_bytes / 1e6:.1f} MB"
    return Check(what="store", state="ok", said=said)


def _disk(home: Home, budget_gb: float) -> Check:
    used, free = sum(sizes(home).values()), shutil.disk_usage(home.root).free
    said = f"{used / 1e9:.2f} GB of a budget of {budget_gb:g} GB, {free / 1e9:.1f} GB free"
    if free < _LEAST_FREE_BYTES or used > budget_gb * 1e9:
        return Check(what="disk", state="warn", said=said, run="koboshi gc --dry-run")
    return Check(what="disk", state="ok", said=said)


def _kernels() -> Check:
    reason = kernels.why_not()
    if reason is None:
        return Check(what="kernels", state="ok", said="koboshi's own for Q8_0 and flash attention, on the processor")
    return Check(what="kernels", state="ok", said=f"llama.cpp's; koboshi's own are not used: {reason}")


def _sandbox() -> Check:
    found = probe()
    if found.mode is None:
        return Check(
            what="sandbox",
            state="warn",
            said=f"{found}: tools that write, reach out or run programs are refused",
            run="apt-get install bubblewrap",
        )
    return Check(what="sandbox", state="ok", said=str(found))


def _sqlite() -> Check:
    with sqlite3.connect(":memory:") as db:
        has_search = db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone()
    db.close()
    if not has_search:
        return Check(
            what="sqlite", state="bad", said=f"SQLite {sqlite3.sqlite_version} without full-text search (FTS5)"
        )
    return Check(what="sqlite", state="ok", said=f"SQLite {sqlite3.sqlite_version}, one writer at a time by a lock")


def _grammar() -> Check:
    found = _version("llguidance")
    if found is None:
        run = "pip install llguidance"
        return Check(what="grammar", state="bad", said="llguidance is missing: no call can be constrained", run=run)
    return Check(what="grammar", state="ok", said=f"llguidance {found}")


def _mcp() -> Check:
    found = _version("mcp")
    if found is None:
        return Check(
            what="mcp", state="ok", said="not installed: needed for MCP servers only", run="pip install koboshi[mcp]"
        )
    return Check(what="mcp", state="ok", said=f"mcp {found}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
