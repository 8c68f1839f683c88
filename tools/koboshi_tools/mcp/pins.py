"""The definitions of MCP tools that the operator has accepted: the section `mcp` of the project's `tools.lock`.

What stands there is all that a model is ever offered of a server. A tool that its server describes otherwise now is
blocked until it is accepted anew, and a server that is not in the lock offers nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from ..lock import LOCK_FILE, broken, read_section, write_section
from .definitions import Listed

__all__ = ["LOCK_FILE", "read_pins", "write_pins"]

_SECTION = "mcp"


def read_pins(lock: Path) -> dict[str, Listed]:
    """Return what was accepted, by server. Raises UsageError for a lock that cannot be read."""
    section = read_section(lock, _SECTION)
    try:
        return {name: Listed.model_validate(pinned) for name, pinned in section.items()}
    except ValidationError as error:
        raise broken(lock, "the section mcp is not one of ours") from error


def write_pins(lock: Path, pins: Mapping[str, Listed]) -> None:
    """Write what is accepted, and leave the rest of the lock as it is. Raises KoboshiError."""
    write_section(lock, _SECTION, {name: pinned.model_dump(mode="json") for name, pinned in pins.items()})
