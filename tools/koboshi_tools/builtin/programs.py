"""Run a program inside a sandbox, and read what it writes up to a bound.

What it writes beyond the bound ends it: a program that floods is not worth waiting for.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import ToolError

MAX_WRITTEN_BYTES = 64 << 10


def run_program(command: Sequence[str], folder: Path, *, text: str | None = None) -> str:
    """Return what a program writes to its output and errors, as they come. Raises ToolError if it fails, with both."""
    given = None if text is None else _given(text)
    with subprocess.Popen(
        list(command), cwd=folder, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        if given is not None:
            os.close(given)
        assert process.stdout is not None
        data = process.stdout.read(MAX_WRITTEN_BYTES + 1)
        if len(data) > MAX_WRITTEN_BYTES:
            process.kill()
    written = data[:MAX_WRITTEN_BYTES].decode("utf-8", errors="replace").rstrip("\n")
    if len(data) > MAX_WRITTEN_BYTES:
        raise ToolError(f"{written[:2000]}\n(ended: it wrote more than {MAX_WRITTEN_BYTES} bytes)")
    if process.returncode:
        raise ToolError(f"{written}\n({_exit(process.returncode)})".lstrip("\n"))
    return written or "(no output)"


def _given(text: str) -> int:
    """Return the descriptor of a file in memory that holds `text`: a pipe would have to be fed while it is emptied."""
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _exit(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
