"""The tokens of the server: one for each scope, each a file of mode 0600 in the home.

Who has a token may do what its scope says and nothing else: `run` asks the model and the agent, `label` says how runs
went, `approve` answers calls that wait for a person. So a program that is given a model is not given a say about it.
A token's shape is one that the redactor knows, so that no trace holds one.
"""

import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from koboshi_tools import KoboshiError

from ..home import Home

_RANDOM_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Scope(StrEnum):
    """What a token lets its holder do."""

    RUN = "run"
    LABEL = "label"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens by scope."""

    by_scope: Mapping[Scope, str]

    def scope_of(self, token: str) -> Scope | None:
        """Return what a token is good for, in the same time whatever it is; None if it is none."""
        found = None
        for scope, known in self.by_scope.items():
            if hmac.compare_digest(known.encode(), token.encode("utf-8", "surrogateescape")):
                found = scope
        return found


def token_path(home: Home, scope: Scope) -> Path:
    """Return where the token of a scope lies."""
    return home.tokens / scope


def open_tokens(home: Home) -> Tokens:
    """Read the tokens of a home; one that is missing is made. Raises KoboshiError if others may read one."""
    return Tokens({scope: _open(token_path(home, scope), scope) for scope in Scope})


def _open(path: Path, scope: Scope) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path)
    token = f"sk-koboshi-{scope}-{secrets.token_urlsafe(_RANDOM_BYTES)}"
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    return token


def _read(path: Path) -> str:
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
        raise KoboshiError(
            f"others may read {path} (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"Remove it, and a new token is made: rm {path}",
        )
    token = path.read_text(encoding="ascii", errors="replace").strip()
    if len(token) < _RANDOM_BYTES:
        raise KoboshiError(f"{path} holds no token", hint=f"Remove it, and a new one is made: rm {path}")
    return token
