"""Koboshi's own kernels: what llama.cpp computes slowly on processors with AVX512-VNNI, put before llama.cpp's own.

Two functions in C (`c/`): products of Q8_0 matrices for two columns and more, and flash attention of two tokens
and more to F16 cells. They bear the names of llama.cpp's and come before these in the process's scope, so that `load`
must be called before llama.cpp's libraries are loaded. They are used only where they were proved: by this processor,
for versions of llama-cpp-python whose calls they know, and after their results were held against numpy's when they were
compiled. The library lies in the environment's own `lib/koboshi`; where it cannot be had everything is llama.cpp's.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_C = Path(__file__).parent / "c"
_SOURCES = ("products.c", "attention.c", "hooks.c")
_FLAGS = (
    *("-O3", "-std=c11", "-fPIC", "-shared", "-mfma", "-mf16c"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"),
)
_NEEDED = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma", "f16c"}
_KNOWN = {"0.3.36"}
"""Versions of llama-cpp-python whose two functions are called as `hooks.c` is."""

_COMPILE_S = 120.0
_COMPILERS = ("cc", "gcc", "clang")
_FORGONE = "KOBOSHI_NO_KERNELS"


@dataclass(frozen=True, slots=True)
class Kernels:
    """The loaded library, or why there is none."""

    library: ctypes.CDLL | None
    reason: str | None

    def switch(self, on: bool) -> None:
        """Have this process compute with them from now on, or as llama.cpp does; they are on once they are loaded."""
        if self.library is not None:
            ctypes.c_int.in_dll(self.library, "koboshi_on").value = int(on)

    def used(self) -> tuple[int, int]:
        """Return how many products and how many attentions were computed with them in this process."""
        if self.library is None:
            return 0, 0
        names = ("koboshi_multiplied", "koboshi_attended")
        multiplied, attended = (ctypes.c_uint64.in_dll(self.library, name).value for name in names)
        return multiplied, attended


@cache
def load() -> Kernels:
    """Compile them if that was not done in this environment, and put them into the process's scope."""
    if os.environ.get(_FORGONE):
        return Kernels(None, f"{_FORGONE} is set")
    reason = why_not()
    path = library_path()
    if reason is None and not path.exists():
        reason = _compile(path)
    if reason is not None:
        return Kernels(None, reason)
    return Kernels(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL), None)


def forgo() -> None:
    """Have this process and its children do without them; call it before anything loads llama.cpp."""
    os.environ[_FORGONE] = "1"


def why_not() -> str | None:
    """Return why they are not used here, with what was tried before; None where they are, or will be compiled."""
    reason, path = unfit(), library_path()
    if reason is not None or path.exists():
        return reason
    if (refusal := _refusal(path)).exists():
        return refusal.read_text(encoding="utf-8")
    return None if _compiler() else f"there is no C compiler ({_COMPILERS[0]}) to compile them"


def unfit() -> str | None:
    """Return why they cannot be used here, whether they are compiled or not; None where they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86-64"
    if lacking := _NEEDED - _processor_flags():
        return f"this processor has no {', '.join(sorted(lacking))}"
    found = _llama_version()
    if found not in _KNOWN:
        return f"they do not know llama-cpp-python {found}, only {', '.join(sorted(_KNOWN))}"
    if not (_include() / "ggml.h").exists():
        return f"there is no ggml.h in {_include()}"
    return None


def library_path() -> Path:
    """Return where the library is, or will be: its name says what it was compiled from."""
    parts = [*((_C / name).read_bytes() for name in (*_SOURCES, "kernels.h")), *map(str.encode, _FLAGS)]
    named = sha256(b"\0".join([*parts, _llama_version().encode()])).hexdigest()[:16]
    return Path(sys.prefix) / "lib" / "koboshi" / f"kernels-{named}.so"


def _compile(path: Path) -> str | None:
    """Make the library at `path`, or return why not; a refusal is kept, so that it is not tried at every start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            if (reason := _run(made) or _wrong(made)) is None:
                os.replace(made, path)
                return None
        refusal = f"{reason}; remove {_refusal(path)} to try again"
        _refusal(path).write_text(refusal, encoding="utf-8")
    except OSError as error:
        return f"{path.parent} cannot be written: {error.strerror}"
    return refusal


def _refusal(path: Path) -> Path:
    return path.with_suffix(".refused")


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, _COMPILERS)), None)


def _run(target: Path) -> str | None:
    compiler = _compiler() or _COMPILERS[0]
    sources = [str(_C / name) for name in _SOURCES]
    command = [compiler, *_FLAGS, f"-I{_include()}", *sources, "-o", str(target), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{compiler} did not compile them: {error}"
    said = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else f"{compiler} did not compile them: {said[0] if said else done.returncode}"


def _wrong(made: Path) -> str | None:
    from .kernels_check import wrong

    return wrong(ctypes.CDLL(str(made)))


def _processor_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="ascii", errors="replace").splitlines() if info.exists() else []
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def _llama_version() -> str:
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return "none"


def _include() -> Path:
    spec = find_spec("llama_cpp")
    return Path(spec.origin).parents[1] / "include" if spec and spec.origin else Path("include")
