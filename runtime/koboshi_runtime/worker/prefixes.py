"""Beginnings of prompts on disk: a new process loads in milliseconds what it would decode again.

llama.cpp puts back a state of any model of the same architecture, so a file is named by everything that its content
depends on: model, cells, attention, build, and the ids themselves, which hold template and tools. Its first bytes are
the digest of the rest, since a damaged state could end the process. The folder keeps within a budget; what was unused
for longest goes first. Nothing here is durable, and nothing needs to be.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import temporary_name

_DIGEST_BYTES = hashlib.sha256().digest_size
_PRIVATE_FILE = 0o600

# Shorter beginnings are decoded as quickly as they are read and checked.
LEAST_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The beginnings of one model, loaded one way, in a folder that other models may share."""

    folder: Path
    identity: str
    budget_bytes: int

    def read(self, ids: Sequence[int]) -> bytes | None:
        """Return the state after `ids`, or None: not kept, or damaged and now removed."""
        path = self._path(ids)
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        state = data[_DIGEST_BYTES:]
        if hashlib.sha256(state).digest() != data[:_DIGEST_BYTES]:
            path.unlink(missing_ok=True)
            return None
        return state

    def write(self, ids: Sequence[int], state: bytes) -> None:
        """Keep the state after `ids`. A folder that cannot be written to costs speed, not a run."""
        path = self._path(ids)
        if path.exists() or len(state) > self.budget_bytes:
            return
        temporary = temporary_name(path)
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(state).digest())
                file.write(state)
            temporary.replace(path)
            self._trim()

    def _trim(self) -> None:
        found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.iterdir())
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self.budget_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, ids: Sequence[int]) -> Path:
        content = hashlib.sha256(self.identity.encode() + b"\0" + np.asarray(ids, dtype=np.int32).tobytes())
        return self.folder / content.hexdigest()
