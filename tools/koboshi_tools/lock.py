"""`tools.lock`: the tools of a project as a person last accepted them.

It pins those whose code may change without a release of koboshi: of the project's `tools/` folder and of installed
packages. The built-in tools are koboshi's own, and its version names them; tools of MCP servers are pinned by what
their server says of them. A tool that is seen for the first time is pinned as it is, because a rule must allow it
before anything calls it; one that differs from its pin is not run until it is accepted.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from .definition import Tool
from .errors import KoboshiError, RefusedError, UsageError
from .values import EffectClass, Frozen

FILE_NAME = "tools.lock"

_HEAD = "# The tools of this project as they were accepted: changed by `koboshi tools accept NAME`, never by hand.\n"
_HINT = f"Correct it, or remove {FILE_NAME} to accept every tool as it is now."


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


def state_of(tool: Tool, pins: Mapping[str, Pin]) -> PinState:
    """Return how a tool stands to its pin."""
    pin = pins.get(tool.spec.name)
    if pin is None:
        return PinState.NEW
    return PinState.SAME if pin.digest == tool.digest else PinState.CHANGED


def read_lock(root: Path) -> dict[str, Pin]:
    """Return the pins of the project in `root` by the names of its tools. Raises UsageError where it is wrong."""
    path = root / FILE_NAME
    try:
        return _PINS.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", hint=_HINT) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {where}: {first['msg']}", hint=_HINT) from error


def write_lock(root: Path, pins: Mapping[str, Pin]) -> None:
    """Write the pins, whole or not at all. Raises KoboshiError."""
    path = root / FILE_NAME
    beside = path.with_name(f".{FILE_NAME}.{os.getpid()}.partial")
    try:
        beside.write_text(_HEAD + "".join(_table(name, pins[name]) for name in sorted(pins)), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        hint = "A tool that is new is pinned when it is first seen: make the project's folder writable."
        raise KoboshiError(f"cannot write {path}: {error.strerror}", hint=hint) from error


def hold_to_lock(root: Path, tools: Mapping[str, Tool]) -> None:
    """Pin the tools that are new. Raises RefusedError, naming it, for one that differs from its pin."""
    pins = read_lock(root)
    for name, tool in tools.items():
        if state_of(tool, pins) is PinState.CHANGED:
            raise RefusedError(
                f"the tool {name!r} is not the one that was accepted: {_difference(tool, pins[name])}",
                hint=f"Look at it, then: koboshi tools accept {name}",
            )
    new = {name: pin_of(tool) for name, tool in tools.items() if name not in pins}
    if new:
        write_lock(root, pins | new)


def accept(root: Path, name: str, tool: Tool | None) -> PinState:
    """Pin a tool as it is, or take the pin away if there is no such tool any more; return how it stood before."""
    pins = read_lock(root)
    if tool is None:
        del pins[name]
        write_lock(root, pins)
        return PinState.CHANGED
    before = state_of(tool, pins)
    if before is not PinState.SAME:
        write_lock(root, pins | {name: pin_of(tool)})
    return before


def _table(name: str, pin: Pin) -> str:
    # A string of JSON in ASCII is one of TOML.
    fields = pin.model_dump(mode="json")
    return f"\n[{json.dumps(name)}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


def _difference(tool: Tool, pin: Pin) -> str:
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
