"""Copies of a home that can be trusted, and homes made of them.

A backup is a folder with the files of a home and `backup.json`, which names each by its hash. The store is copied as
one snapshot while others write; models stand still meanwhile, so that store and registry belong together. A folder
appears whole or not at all.

Restoring makes a home where there is none. Every file is hashed while it is copied and the store is read whole before
the home gets its name; a backup that holds anything else than what it names is refused.

Not copied: `run/`, in which nothing outlives a reboot, tokens, locks, and what a killed writer left behind.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from pydantic import Field, ValidationError

from koboshi_tools import Frozen, KoboshiError, UsageError, hash_file

from ..files import TEMPORARY, locked, pieces_of, replace_file, sync_folder, temporary_name, write_new
from ..home import Home
from ..ids import utc_now
from ..store.copy import copy_database
from ..store.migrations import SCHEMA_VERSION

NAME = "backup.json"
_STORE = "traces.db"
_KEPT = ("models", "datasets", "runs", "reports", "trust")


class BackedUp(Frozen):
    """One file of a backup: its path below the home, POSIX and relative, its size and hash."""

    path: str
    bytes: int = Field(ge=0)
    sha256: str


class BackupManifest(Frozen):
    """What a backup holds. `schema_version` is that of its store, None where there is no store."""

    koboshi: str
    created_at: str
    schema_version: int | None
    files: tuple[BackedUp, ...]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


def default_folder() -> Path:
    """Return where a backup goes that nobody gave a place: a folder here, named by the time."""
    return Path.cwd() / f"koboshi-backup-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def back_up(home: Home, target: Path) -> BackupManifest:
    """Copy `home` to the folder `target`, which must not exist. Raises KoboshiError, and then leaves nothing."""
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already", hint="Name a folder that does not, or leave the name out.")
    if target.resolve().is_relative_to(home.root.resolve()):
        raise UsageError(f"{target} is inside the home that it would back up", hint="Name a folder outside.")
    with _made(target) as part, locked(home.models / ".lock"):
        _check_space(part, _size(home))
        if home.traces.exists():
            copy_database(home.traces, part / _STORE)
        for path in _files(home):
            _copy_there(path, part / path.relative_to(home.root))
        manifest = BackupManifest(
            koboshi=version("koboshi"),
            created_at=utc_now(),
            schema_version=SCHEMA_VERSION if home.traces.exists() else None,
            files=tuple(_described(part)),
        )
        replace_file(part / NAME, manifest.model_dump_json(indent=1).encode() + b"\n")
    return manifest


def read_backup(folder: Path) -> BackupManifest:
    """Return what a backup says that it holds. Raises UsageError for a folder that is none."""
    try:
        manifest = BackupManifest.model_validate_json((folder / NAME).read_bytes())
    except OSError as error:
        raise UsageError(f"{folder} is no backup: {folder / NAME} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise UsageError(f"{folder / NAME} does not parse: {error.errors()[0]['msg']}") from error
    for file in manifest.files:
        _refuse_strange(PurePosixPath(file.path), folder)
    if manifest.schema_version is not None and manifest.schema_version > SCHEMA_VERSION:
        raise KoboshiError(
            f"{folder} has a store of schema {manifest.schema_version}; this koboshi knows {SCHEMA_VERSION}",
            hint=f"Restore it with koboshi {manifest.koboshi} or newer.",
        )
    return manifest


def restore(folder: Path, home: Home) -> BackupManifest:
    """Make `home` of the backup in `folder`. Raises KoboshiError, and then leaves everything as it was.

    Raises UsageError if the home holds anything, or if `folder` is no backup.
    """
    manifest = read_backup(folder)
    _refuse_full(home)
    with _made(home.root, over=home) as part:
        _check_space(part, manifest.bytes)
        for file in manifest.files:
            _copy_checked(folder / file.path, part / file.path, file)
        if (part / _STORE).exists():
            _check_store(part / _STORE, folder)
        for place in home.folders[1:]:
            (part / place.name).mkdir(mode=0o700, exist_ok=True)
    return manifest


def verify(folder: Path) -> BackupManifest:
    """Read a backup whole. Raises KoboshiError if a file is missing or is not what the manifest says."""
    manifest = read_backup(folder)
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or hash_file(path) != file.sha256:
            raise _damaged(path)
    return manifest


@contextmanager
def _made(target: Path, over: Home | None = None) -> Iterator[Path]:
    """Give a folder beside `target` that gets its name at the end of the block; on an error it is removed."""
    part = temporary_name(target)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.mkdir(mode=0o700)
    except OSError as error:
        raise KoboshiError(f"cannot write to {target.parent}: {error.strerror}", hint="Name another folder.") from error
    try:
        yield part
        if over is not None:
            _remove_empty(over)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise KoboshiError(f"{target} cannot be written: {error}", hint="Free some space, and try again.") from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _files(home: Home) -> Iterator[Path]:
    """Yield what is copied file by file, in a stable order; links are not followed, and not copied."""
    for name in _KEPT:
        for folder, inner, names in os.walk(home.root / name):
            inner[:] = sorted(each for each in inner if not each.startswith(TEMPORARY))
            for each in sorted(names):
                path = Path(folder) / each
                if path.is_file() and not path.is_symlink() and not _is_passing(each):
                    yield path


def _is_passing(name: str) -> bool:
    return name.startswith(TEMPORARY) or name.endswith(".lock")


def _size(home: Home) -> int:
    store = home.traces.stat().st_size if home.traces.exists() else 0
    return store + sum(path.stat().st_size for path in _files(home))


def _copy_there(source: Path, target: Path) -> None:
    """Copy a file that its writer may replace meanwhile; one that is gone by now needs no copy."""
    try:
        reading = source.open("rb")
    except FileNotFoundError:
        return
    with reading:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(pieces_of(reading), target)


def _described(part: Path) -> Iterator[BackedUp]:
    for path in sorted(path for path in part.rglob("*") if path.is_file()):
        name = path.relative_to(part).as_posix()
        yield BackedUp(path=name, bytes=path.stat().st_size, sha256=hash_file(path))


def _copy_checked(source: Path, target: Path, file: BackedUp) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with open(source, "rb", opener=_no_link) as reading:
            found = write_new(pieces_of(reading), target)
    except OSError as error:
        raise _damaged(source) from error
    if found != file.sha256:
        raise _damaged(source)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _damaged(path: Path) -> KoboshiError:
    return KoboshiError(
        f"{path} is not what the backup says it holds", hint="Use another backup: this one was damaged or changed."
    )


def _check_store(path: Path, folder: Path) -> None:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as db:
            found = str(db.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise KoboshiError(f"the store in {folder} is damaged: {found}", hint="Use another backup.")


def _refuse_strange(path: PurePosixPath, folder: Path) -> None:
    below = path.parts[:1]
    if path.is_absolute() or ".." in path.parts or not (str(path) == _STORE or (below and below[0] in _KEPT)):
        raise UsageError(f"{folder} names a file that belongs to no home: {str(path)!r}")


def _refuse_full(home: Home) -> None:
    held = sorted(path.relative_to(home.root) for path in _held(home))
    if held:
        more = f" and {len(held) - 1} more files" if len(held) > 1 else ""
        raise UsageError(
            f"{home.root} is in use: it holds {held[0]}{more}, and nothing is overwritten",
            hint="Move it away, or set KOBOSHI_HOME to a folder that does not exist.",
        )


def _held(home: Home) -> Iterator[Path]:
    """Yield what would be lost: any file but those of `run/` and locks, which every command leaves behind."""
    for path in home.root.rglob("*") if home.root.exists() else ():
        if not path.is_dir() and not path.is_relative_to(home.run) and not _is_passing(path.name):
            yield path


def _remove_empty(home: Home) -> None:
    """Remove the folders that a home begins with, and what is in `run/`."""
    if home.root.exists():
        shutil.rmtree(home.root)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise KoboshiError(
            f"{needed / 1e9:.2f} GB are needed in {folder.parent}, and {free / 1e9:.2f} GB are free",
            hint="Free some space, or name a folder on another disk.",
        )
