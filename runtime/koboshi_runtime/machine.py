"""Describe the machine that a measurement was made on: figures mean nothing without it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from koboshi_tools import Frozen

_PACKAGES = ("koboshi", "llama-cpp-python", "xllamacpp", "llguidance", "numpy")


class Machine(Frozen):
    """Processor, memory and versions; `processors` counts those this process may use, `load` is of the last minute."""

    processor: str
    processors: int
    memory_gb: float
    system: str
    python: str
    load: float
    versions: dict[str, str]


def describe() -> Machine:
    """Return what can be read of this machine without asking anybody's permission."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        processor=_processor(),
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=round(pages * size / 1e9, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
        versions={name: found for name in _PACKAGES if (found := _version(name))},
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(info) if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
