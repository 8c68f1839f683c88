"""Listening: on a port of the loopback address and at a UNIX socket in the home, nowhere that others could reach."""

import ipaddress
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from koboshi_tools import KoboshiError, UsageError

_BACKLOG = 1024
UNIX_HOST = "localhost"
"""What clients of the UNIX socket call the server; no page can have that name without a port but on port 80."""

_FAREWELL_S = 45
"""Seconds that replies under way are given when the server stops."""


def listen_on(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises UsageError for an address that is not loopback, KoboshiError if the port is taken.
    """
    address = _loopback(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        hint = "Is a server running? See: koboshi ps. Or take another port: --port"
        raise KoboshiError(f"cannot listen on {host}:{port}: {error.strerror}", hint=hint) from error
    return listener


def listen_at(path: Path) -> socket.socket:
    """Return a UNIX socket of mode 0600 that listens at `path`; what a server before left there is replaced.

    The folder is its owner's alone, and the name is bound through it, so that it may be longer than such a name can be.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        hint = "Take 127.0.0.1, and let something that encrypts stand before it, such as ssh -L."
        raise UsageError(f"{host!r} is no loopback address, and this server listens on no other", hint=hint)
    return address


def names_of(listener: socket.socket) -> frozenset[str]:
    """Return what a client may call a listening server by in its `Host` header, in lower case."""
    address, port = listener.getsockname()[:2]
    own = f"[{address}]" if ":" in address else address
    return frozenset(f"{name}:{port}" for name in (own, "localhost", "127.0.0.1", "[::1]")) | {UNIX_HOST}


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return uvicorn for `app`; `serve(sockets=...)` runs it, a signal or `should_exit` ends it."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_FAREWELL_S,
    )
    return uvicorn.Server(config)
