"""The frames that a worker and its client exchange: four bytes of length, most significant first, then JSON.

A request is `{"id", "op", …}`, an answer `{"id", "ok": true, …}` or `{"id", "ok": false, "error"}`; the worker's first
frame has id 0 and says what it loaded. Before the answer to a `generate` with `"stream": true` come frames
`{"id", "more"}` with the text as it is written.
"""

import json
import struct
from typing import Any

_LENGTH = struct.Struct(">I")

# A prompt of 100,000 ids is under 1 MB; a length beyond this is a broken stream, not a message.
MAX_FRAME_BYTES = 256 << 20


def encode(message: dict[str, Any]) -> bytes:
    """Return one frame."""
    body = json.dumps(message, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(body)) + body


def frame_length(head: bytes) -> int:
    """Return the length of the body that follows the four bytes of `head`. Raises ValueError if it is absurd."""
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    return int(length)


def decode(body: bytes) -> dict[str, Any]:
    """Return the message of a frame's body."""
    message: dict[str, Any] = json.loads(body.decode("utf-8", "surrogatepass"))
    return message


class Inbox:
    """Collects bytes as they come and gives back whole messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Add `data` and return the messages that are now complete."""
        self._data += data
        messages = []
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + frame_length(bytes(self._data[: _LENGTH.size]))
            if len(self._data) < end:
                break
            messages.append(decode(bytes(self._data[_LENGTH.size : end])))
            del self._data[:end]
        return messages
