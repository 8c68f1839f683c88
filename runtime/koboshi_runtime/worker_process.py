"""The process of a model worker, which can be started before it is known what it is to load.

Its imports take as long as those of a command that will need a model: `early_worker` has both done at once. Only the
standard library is imported here.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# How long GCC's OpenMP lets a thread spin at a barrier before it sleeps. By default it spins for milliseconds, at
# hundreds of barriers a step: where something else wants the processor that costs the worker itself most.
_SPIN = {"GOMP_SPINCOUNT": "1000"}

_TITLE = "koboshi-worker "


@dataclass(slots=True)
class WorkerProcess:
    """A started worker, our end of its socket, and a file with what it prints; `taken` once a model is loaded in it."""

    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    errors: IO[bytes]
    taken: bool = False


def title_of(model: Path) -> str:
    """Return what a worker calls itself in lists of processes once it knows its model."""
    return f"{_TITLE}{model}"


def model_of(command_line: bytes) -> Path | None:
    """Return the model of the worker whose command line this is, as /proc gives it, or None if it is none."""
    text = command_line.rstrip(b"\0").decode("utf-8", "surrogateescape")
    return Path(text.removeprefix(_TITLE)) if text.startswith(_TITLE) else None


def start_worker() -> WorkerProcess:
    """Start a worker that waits to be told what to load."""
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "koboshi_runtime.worker", "serve", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            # A Ctrl-C is for the runtime, which closes the socket when it is ready.
            start_new_session=True,
            env={**_SPIN, **os.environ, "PYTHONUNBUFFERED": "1"},
        )
    return WorkerProcess(process, ours, errors)


@contextmanager
def early_worker() -> Iterator[WorkerProcess]:
    """Give a worker that whoever loads a model may take; end it if nobody did."""
    worker = start_worker()
    try:
        yield worker
    finally:
        if not worker.taken:
            worker.process.kill()
            worker.process.wait()
            worker.connection.close()
            worker.errors.close()
