"""The definitions of MCP tools that the operator has accepted: the section `mcp` of the project's `tools.lock`.

What stands there is all that a model is ever offered of a server. A tool that its server describes otherwise now is
blocked until it is accepted anew, and a server that is not in the lock offers nothing.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import UsageError
from .definitions import Listed

LOCK_FILE = "tools.lock"
_SECTION = "mcp"


def read_pins(lock: Path) -> dict[str, Listed]:
    """Return what was accepted, by server. Raises UsageError for a lock that cannot be read."""
    section = _read(lock).get(_SECTION, {})
    try:
        return {name: Listed.model_validate(pinned) for name, pinned in section.items()}
    except (ValidationError, AttributeError) as error:
        raise _broken(lock, "the section mcp is not one of ours") from error


def write_pins(lock: Path, pins: Mapping[str, Listed]) -> None:
    """Write what is accepted, and leave the rest of the lock as it is."""
    content = _read(lock) | {_SECTION: {name: pins[name].model_dump(mode="json") for name in sorted(pins)}}
    temporary = lock.with_name(f".{lock.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(lock)


def _read(lock: Path) -> dict[str, Any]:
    try:
        content = json.loads(lock.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _broken(lock, str(error)) from error
    if not isinstance(content, dict):
        raise _broken(lock, "it is no object")
    return content


def _broken(lock: Path, reason: str) -> UsageError:
    return UsageError(f"{lock} cannot be read: {reason}", hint="Restore it, or delete it and: koboshi tools accept")
