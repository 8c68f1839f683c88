"""`tools.lock`: the tools of a project as a person last accepted them, one JSON file with a section for each kind.

The section `tools`, which is read and written here, pins those whose code may change without a release of koboshi: of
the project's `tools/` folder and of installed packages. The built-in tools are koboshi's own, and its version names
them; what MCP servers offer is pinned in a section of its own. A tool that is seen for the first time is pinned as it
is, because a rule must allow it before anything calls it; one that differs is refused until it is accepted.
"""

import json
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .definition import Tool
from .errors import KoboshiError, RefusedError, UsageError
from .values import EffectClass, Frozen

LOCK_FILE = "tools.lock"

_SECTION = "tools"
_HINT = "Restore it, or delete it and: koboshi tools accept"


class Pin(Frozen):
    """A tool as it was accepted."""

    version: str
    effect: EffectClass
    digest: str


class PinState(StrEnum):
    """How a tool stands to its pin."""

    SAME = "same"
    NEW = "new"
    CHANGED = "changed"


_PINS = TypeAdapter(dict[str, Pin])


def pin_of(tool: Tool) -> Pin:
    """Return the pin that accepts a tool as it is."""
    return Pin(version=tool.version, effect=tool.effect, digest=tool.digest)


def is_own(tool: Tool) -> bool:
    """Say whether a tool is one that this section pins: code of a project or a package, not koboshi's or a server's."""
    return tool.origin is not None and not tool.origin.module.startswith("koboshi_tools.")


def state_of(name: str, tool: Tool, pins: Mapping[str, Pin]) -> PinState:
    """Return how a tool stands to the pin of that name."""
    pin = pins.get(name)
    if pin is None:
        return PinState.NEW
    return PinState.SAME if pin.digest == tool.digest else PinState.CHANGED


def read_section(lock: Path, section: str) -> dict[str, Any]:
    """Return one section of a lock, empty if there is none. Raises UsageError for a lock that cannot be read."""
    found = _content(lock).get(section, {})
    if not isinstance(found, dict):
        raise broken(lock, f"the section {section} is no object")
    return found


def write_section(lock: Path, section: str, content: Mapping[str, Any]) -> None:
    """Write one section, whole or not at all, and leave the rest of the lock as it is. Raises KoboshiError."""
    whole = _content(lock) | {section: dict(content)}
    beside = lock.with_name(f".{lock.name}.{os.getpid()}.new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            json.dump(whole, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(lock)
    except OSError as error:
        beside.unlink(missing_ok=True)
        hint = "What is accepted is written there: make the project's folder writable."
        raise KoboshiError(f"cannot write {lock}: {error.strerror}", hint=hint) from error


def broken(lock: Path, reason: str) -> UsageError:
    """Return the error of a lock that cannot be read."""
    return UsageError(f"{lock} cannot be read: {reason}", hint=_HINT)


def read_lock(root: Path) -> dict[str, Pin]:
    """Return the pins of the project in `root` by the names of its tools. Raises UsageError where it is wrong."""
    lock = root / LOCK_FILE
    try:
        # From JSON again, so that a word becomes an effect and nothing else is converted.
        return _PINS.validate_json(json.dumps(read_section(lock, _SECTION)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise broken(lock, f"{_SECTION}.{where}: {first['msg']}") from error


def write_lock(root: Path, pins: Mapping[str, Pin]) -> None:
    """Write the pins of the project in `root`. Raises KoboshiError."""
    content = {name: pin.model_dump(mode="json") for name, pin in pins.items()}
    write_section(root / LOCK_FILE, _SECTION, content)


def hold_to_lock(root: Path, tools: Mapping[str, Tool]) -> None:
    """Pin the tools that are new, by these names. Raises RefusedError, naming it, for one that differs from its pin."""
    pins = read_lock(root)
    for name, tool in tools.items():
        if state_of(name, tool, pins) is PinState.CHANGED:
            raise RefusedError(
                f"the tool {name!r} is not the one that was accepted: {difference(tool, pins[name])}",
                hint=f"Look at it, then: koboshi tools accept {name}",
            )
    new = {name: pin_of(tool) for name, tool in tools.items() if name not in pins}
    if new:
        write_lock(root, pins | new)


def _content(lock: Path) -> dict[str, Any]:
    try:
        content = json.loads(lock.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise broken(lock, str(error)) from error
    if not isinstance(content, dict):
        raise broken(lock, "it is no object")
    return content


def difference(tool: Tool, pin: Pin) -> str:
    """Say in what a tool differs from its pin."""
    found = pin_of(tool)
    changed = [
        f"{field} {before} became {after}"
        for field, before, after in (
            ("version", pin.version, found.version),
            ("effect", pin.effect.value, found.effect.value),
            ("digest", _short(pin.digest), _short(found.digest)),
        )
        if before != after
    ]
    return ", ".join(changed)


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]
