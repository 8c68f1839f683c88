"""How a value becomes a column, and comes back equal, but for secrets: no text or JSON value is packed with one.

Text is plain text. A text that is no valid Unicode (bytes kept as lone surrogates) is the one exception: it is stored
as a BLOB of its UTF-8 with the surrogates encoded, in the same column. Token ids are zlib of little-endian int32,
sources a bit each (the first in the lowest bit), log-probabilities little-endian float16: the only values that are
rounded. NaN is kept; what is below the range of float16 becomes minus infinity.
"""

import json
import math
import struct
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ..redact import redactor

Column = str | bytes | int | float | None

_LOWEST_FLOAT16 = -65504.0


def pack_text(text: str) -> str | bytes:
    """Return `text` without secrets, or its bytes where it holds lone surrogates."""
    return pack_redacted(redactor().text(text))


def pack_redacted(text: str) -> str | bytes:
    """Do `pack_text` for a text that the redactor has seen."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def pack_optional(text: str | None) -> str | bytes | None:
    """Return `pack_text` of a text, or None."""
    return None if text is None else pack_text(text)


def unpack_text(column: str | bytes) -> str:
    """Return the text that `pack_text` stored."""
    return column.decode("utf-8", "surrogatepass") if isinstance(column, bytes) else column


def unpack_optional(column: str | bytes | None) -> str | None:
    """Return the text that `pack_optional` stored."""
    return None if column is None else unpack_text(column)


def pack_json(value: Any) -> str | bytes:
    """Return `value` without secrets as readable JSON, its keys in their own order."""
    return pack_redacted(redactor().json(value))


def unpack_json(column: str | bytes) -> Any:
    """Return the value that `pack_json` stored."""
    return json.loads(unpack_text(column))


def pack_ids(ids: Sequence[int]) -> bytes:
    """Return token ids as zlib of int32."""
    return zlib.compress(_int32(ids), 9)


def unpack_ids(blob: bytes) -> tuple[int, ...]:
    """Return the token ids that `pack_ids` stored."""
    raw = zlib.decompress(blob)
    return struct.unpack(f"<{len(raw) // 4}i", raw)


def pack_logprobs(values: Sequence[float]) -> bytes:
    """Return log-probabilities (natural logarithm) as float16."""
    return struct.pack(f"<{len(values)}e", *(-math.inf if value < _LOWEST_FLOAT16 else value for value in values))


def unpack_logprobs(blob: bytes) -> tuple[float, ...]:
    """Return the log-probabilities that `pack_logprobs` stored, as rounded by it."""
    return struct.unpack(f"<{len(blob) // 2}e", blob)


def pack_bits(bits: Sequence[bool]) -> bytes:
    """Return booleans as one bit each, the first in the lowest bit of the first byte."""
    number = sum(1 << index for index, bit in enumerate(bits) if bit)
    return number.to_bytes((len(bits) + 7) // 8, "little")


def unpack_bits(blob: bytes, count: int) -> tuple[bool, ...]:
    """Return the `count` booleans that `pack_bits` stored."""
    number = int.from_bytes(blob, "little")
    return tuple(bool(number >> index & 1) for index in range(count))


def segment_hash(ids: Sequence[int], text: str) -> bytes:
    """Return the 16 bytes that name a segment by its content: equal ids and equal text are one segment."""
    digest = blake2b(len(ids).to_bytes(8, "little"), digest_size=16)
    digest.update(_int32(ids))
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


def _int32(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}i", *ids)
