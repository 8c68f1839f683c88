"""Read, list and search the files of the workspace.

Everything is bounded: what is read, what is looked at and what is returned; where something was left out, the last line
says so. Text that is not UTF-8 shows a replacement character; a binary file is refused.
"""

import os
import stat
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ..definition import ToolContext, tool
from ..errors import ToolError
from .inside import open_file, open_folder, open_regular

MAX_FILE_BYTES = 4 << 20
MAX_LINE_CHARACTERS = 300
MAX_ENTRIES = 200
MAX_MATCHES = 30
MAX_SEARCHED_FILES = 2000
MAX_SEARCHED_BYTES = 32 << 20

_SNIFFED_BYTES = 8192

FilePath = Annotated[str, Field(min_length=1, max_length=200)]


@tool
def files_read(
    path: FilePath,
    context: ToolContext,
    start_line: Annotated[int, Field(ge=1, le=1_000_000)] = 1,
    lines: Annotated[int, Field(ge=1, le=500)] = 100,
) -> str:
    """Read lines of a text file."""
    with open_file(context.workspace, path) as descriptor:
        text = _text(descriptor, path)
    found = text.splitlines()
    wanted = found[start_line - 1 : start_line - 1 + lines]
    if not wanted:
        return f"(the file has {len(found)} lines)"
    shown = [_short(line) for line in wanted]
    if len(wanted) < len(found):
        shown.append(f"(lines {start_line}-{start_line + len(wanted) - 1} of {len(found)})")
    return "\n".join(shown)


@tool
def files_list(context: ToolContext, path: FilePath = ".") -> str:
    """List a folder: sizes in bytes, folders end with /."""
    with open_folder(context.workspace, path) as descriptor:
        names = sorted(os.listdir(descriptor))
        shown = [_entry(name, descriptor) for name in names[:MAX_ENTRIES]]
    if len(names) > MAX_ENTRIES:
        shown.append(f"({len(names) - MAX_ENTRIES} more)")
    return "\n".join(shown) or "(empty)"


@tool
def files_search(
    pattern_text: Annotated[str, Field(min_length=1, max_length=100)], context: ToolContext, path: FilePath = "."
) -> str:
    """Find lines that contain a text, in a folder and below it; case does not matter."""
    wanted = pattern_text.casefold()
    matches: list[str] = []
    with open_folder(context.workspace, path) as descriptor:
        for name, text in texts(descriptor):
            for number, line in enumerate(text.splitlines(), 1):
                if wanted in line.casefold():
                    matches.append(f"{name}:{number}: {_short(line.strip())}")
                if len(matches) > MAX_MATCHES:
                    return "\n".join([*matches[:MAX_MATCHES], "(more matches left out)"])
    return "\n".join(matches) or "no matches"


def folder_state(root: int) -> str:
    """Return a text that changes when a file below an open folder is made, removed, or changes its size or time."""
    found = []
    for folder, folders, names, descriptor in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        folders.sort()
        for name in sorted(names)[:MAX_SEARCHED_FILES]:
            try:
                entry = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.append((folder, name, entry.st_size, entry.st_mtime_ns, entry.st_ino))
    return repr(found)


def texts(root: int) -> Iterator[tuple[str, str]]:
    """Yield the path and text of every text file below an open folder, in the order of their names."""
    files, size = 0, 0
    for folder, folders, names, descriptor in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        folders.sort()
        for name in sorted(names):
            shown = os.path.normpath(f"{folder}/{name}")
            try:
                text = _text_of(name, folder=descriptor, shown=shown)
            except ToolError:
                # Binary, too large, a link or unreadable: the search is over text that can be read.
                continue
            files, size = files + 1, size + len(text)
            if files > MAX_SEARCHED_FILES or size > MAX_SEARCHED_BYTES:
                raise ToolError("there is too much to search; name a folder further down")
            yield shown, text


def _text_of(name: str, *, folder: int, shown: str) -> str:
    descriptor = open_regular(name, folder=folder, shown=shown)
    try:
        return _text(descriptor, shown)
    finally:
        os.close(descriptor)


def _text(descriptor: int, shown: str) -> str:
    size = os.fstat(descriptor).st_size
    if size > MAX_FILE_BYTES:
        raise ToolError(f"{shown!r} has {size} bytes; {MAX_FILE_BYTES} can be read")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        # The size is asked for again by the read itself: the file may be growing.
        data = file.read(MAX_FILE_BYTES)
    if b"\0" in data[:_SNIFFED_BYTES]:
        raise ToolError(f"{shown!r} is a binary file")
    return data.decode("utf-8", errors="replace")


def _entry(name: str, folder: int) -> str:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return f"{name} (gone)"
    printable = name.encode("utf-8", errors="replace").decode()
    if stat.S_ISDIR(found.st_mode):
        return f"{printable}/"
    return f"{printable} {found.st_size}" if stat.S_ISREG(found.st_mode) else f"{printable} (not a regular file)"


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE_CHARACTERS else line[:MAX_LINE_CHARACTERS] + "…"
