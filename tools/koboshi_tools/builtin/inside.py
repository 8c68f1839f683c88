"""Open and replace files inside a folder and nowhere else.

Every path is walked from the folder's own descriptor, one component at a time, and no link is followed, so that nothing
that is swapped between a check and its use leads outside.

Covered: absolute paths, `..`, links at any place (also those that stay inside), pipes and devices. Not covered: a
hard link to a file outside, and a file system mounted inside; who can make those can read the file anyway.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ToolError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe would hold the call until somebody writes to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def open_folder(root: Path, path: str) -> Iterator[int]:
    """Yield the descriptor of the folder at `path` below `root`. Raises ToolError."""
    descriptor = _walk(root, _components(path), path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_file(root: Path, path: str) -> Iterator[int]:
    """Yield the descriptor of the regular file at `path` below `root`, for reading. Raises ToolError."""
    *folders, name = _components(path) or [""]
    if not name:
        raise ToolError(f"{path!r} is a folder, not a file")
    parent = _walk(root, folders, path)
    try:
        descriptor = open_regular(name, folder=parent, shown=path)
    finally:
        os.close(parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def replace_file(root: Path, path: str, data: bytes) -> bool:
    """Give the file at `path` below `root` this content, whole or not at all; make it, and folders, where missing.

    Returns whether the file was there. What other names the old file has keep the old content. Raises ToolError.
    """
    *folders, name = _components(path) or [""]
    if not name or path.endswith("/"):
        raise ToolError(f"{path!r} is a folder, not a file")
    parent = _walk(root, folders, path, make=True)
    try:
        found = _mode(name, parent, path)
        _write_beside(name, parent, data, mode=0o644 if found is None else stat.S_IMODE(found))
    except OSError as error:
        raise ToolError(f"cannot write {path!r}: {error.strerror}") from error
    finally:
        os.close(parent)
    return found is not None


def _mode(name: str, folder: int, shown: str) -> int | None:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return mode
    kind = "a link, and links are not followed" if stat.S_ISLNK(mode) else "not a regular file"
    raise ToolError(f"{shown!r} is {kind}")


def _write_beside(name: str, folder: int, data: bytes, *, mode: int) -> None:
    beside = f".{secrets.token_hex(8)}.partial"
    descriptor = os.open(
        beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(beside, dir_fd=folder)
        raise


def open_regular(name: str, *, folder: int, shown: str) -> int:
    """Return the descriptor of the regular file `name` in an open folder. Raises ToolError, naming it as `shown`."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        raise _refusal(shown, name, folder, error) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise ToolError(f"{shown!r} is a folder, not a file" if stat.S_ISDIR(mode) else f"{shown!r} is not a regular file")


def _components(path: str) -> list[str]:
    if path.startswith(("/", "~")) or "\0" in path:
        raise ToolError(f"{path!r} is not a path inside the workspace")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ToolError(f"{path!r} leads out of the workspace")
    return parts


def _walk(root: Path, folders: list[str], shown: str, *, make: bool = False) -> int:
    # The root itself is the operator's choice and may be a link.
    descriptor = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    for name in folders:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            below = os.open(name, _FOLDER, dir_fd=descriptor)
        except OSError as error:
            raise _refusal(shown, name, descriptor, error) from error
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _refusal(shown: str, name: str, folder: int, error: OSError) -> ToolError:
    if isinstance(error, FileNotFoundError):
        return ToolError(f"there is no {shown!r}")
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        is_link = False
    if is_link:
        return ToolError(f"{shown!r} passes through a link, and links are not followed")
    return ToolError(f"cannot open {shown!r}: {error.strerror}")
