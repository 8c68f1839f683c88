"""One canonical JSON text for a value, and the hash of it.

Every hash in koboshi that is taken of a structure is taken of this text, so that equal values have equal hashes in
every process and on every machine.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

_READ_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys, no spaces and no escapes; NaN and infinities raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_bytes(data: bytes) -> str:
    """Return `sha256:` and the hex digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hash_value(value: Any) -> str:
    """Return the hash of the canonical JSON of `value`."""
    return hash_bytes(canonical_json(value).encode())


def hash_file(path: Path) -> str:
    """Return the hash of a file's bytes, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return "sha256:" + digest.hexdigest()
