"""What crosses between the process that calls a tool and the sandboxed process that runs it: lines of JSON.

What comes out of a sandbox was written by whatever runs there. It is parsed into values of a few known fields, never
unpickled, and bounded before it is read.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from ..values import Frozen
from .profile import SandboxProfile

_READ_BYTES = 1 << 16


class Job(Frozen):
    """One call, as the sandboxed process is told of it.

    `code` are the bytes of the tool's file, one character each, or None where its module can be imported.
    """

    tool: str
    digest: str
    module: str
    file: str
    code: str | None
    arguments: dict[str, Any]
    settings: dict[str, Any]
    workspace: str
    max_output_bytes: int


class Start(Frozen):
    """What a keeper is told with the descriptor of a call."""

    profile: SandboxProfile
    workspace: str
    seconds: float


class Answer(Frozen):
    """What became of a call: the tool's text, its own error, or how it failed."""

    kind: Literal["ok", "tool_error", "failed"]
    text: str
    truncated: bool = False


class FetchAsked(Frozen):
    """The tool asks for a page; who is outside decides."""

    fetch: str


class FetchAnswer(Frozen):
    """The page, or why there is none; a refusal is for the model to read."""

    status: int = 0
    url: str = ""
    content_type: str = ""
    text: str = ""
    refused: str | None = None


class Ended(Frozen):
    """What the keeper adds when a call ends that did not answer by itself."""

    ended: str = Field(min_length=1)


Message = Answer | FetchAsked | Ended


class TooMuchError(Exception):
    """More came out of the sandbox than an answer can have."""


def send(channel: socket.socket, value: Frozen) -> None:
    """Send one value. Raises OSError."""
    channel.sendall(line(value))


def line(value: Frozen) -> bytes:
    """Return a value as a line; JSON in ASCII holds no other line end."""
    return json.dumps(value.model_dump(mode="json")).encode("ascii") + b"\n"


def lines(channel: socket.socket, *, max_bytes: int) -> Iterator[bytes]:
    """Yield lines until the other side closes. Raises TooMuchError after `max_bytes` in all, OSError."""
    held = b""
    total = 0
    while piece := channel.recv(_READ_BYTES):
        total += len(piece)
        if total > max_bytes:
            raise TooMuchError
        *whole, held = (held + piece).split(b"\n")
        yield from whole


def message(text: bytes) -> Message | None:
    """Return what a sandboxed process says, None for what is not a message."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Mapping):
        return None
    for kind in (Answer, FetchAsked, Ended):
        try:
            return kind.model_validate(found)
        except ValidationError:
            continue
    return None
