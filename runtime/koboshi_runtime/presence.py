"""Which server runs on a home: its record, and the lock that allows one at a time.

The record is a file of the home's `run/`; it counts only while the process that wrote it lives. The lock goes with the
process, however it ends.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from koboshi_tools import Frozen, KoboshiError

from .files import replace_file
from .home import Home
from .ids import utc_now
from .store.owner import is_alive, this_process

_POLL_S = 0.1


class ServerRecord(Frozen):
    """A server: `owner` names its process (`store.owner`), `url` is where it listens, `project` what it serves."""

    owner: str
    pid: int
    url: str
    project: str
    started_at: str


def api_socket(home: Home) -> Path:
    """Return where a server of this home listens for HTTP, besides its port."""
    return home.run / "api.sock"


def model_socket(home: Home) -> Path:
    """Return where a server of this home lets other commands use its worker."""
    return home.run / "model.sock"


@contextmanager
def only_server(home: Home) -> Iterator[None]:
    """Be the one server of a home. Raises KoboshiError if there is another."""
    descriptor = os.open(home.run / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise KoboshiError(
                f"a server runs on {home.root} already", hint="See: koboshi ps. End it with: koboshi stop"
            ) from error
        yield
        with suppress(FileNotFoundError):
            home.server.unlink()
    finally:
        os.close(descriptor)


def announce(home: Home, *, url: str, project: str) -> ServerRecord:
    """Write that this process serves."""
    found = ServerRecord(owner=this_process(), pid=os.getpid(), url=url, project=project, started_at=utc_now())
    replace_file(home.server, found.model_dump_json().encode())
    return found


def running_server(home: Home) -> ServerRecord | None:
    """Return the server that runs on a home, or None."""
    try:
        found = ServerRecord.model_validate_json(home.server.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return found if is_alive(found.owner) else None


def stop_server(found: ServerRecord, *, patience_s: float) -> bool:
    """Ask a server to end, and return whether it did within `patience_s` seconds."""
    os.kill(found.pid, signal.SIGTERM)
    ends_at = time.monotonic() + patience_s
    while is_alive(found.owner):
        if time.monotonic() > ends_at:
            return False
        time.sleep(_POLL_S)
    return True
