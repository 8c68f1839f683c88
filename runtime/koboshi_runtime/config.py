"""The configuration: one validated value made of layers, each key knowing which layer gave it.

Later wins: the defaults here, `/etc/koboshi/config.toml`, `$XDG_CONFIG_HOME/koboshi/config.toml`, the project's
`koboshi.toml`, `KOBOSHI_TABLE__KEY` variables, flags. A key that nobody knows is refused with the nearest known one: a
misspelt limit that is silently ignored is a limit that does not hold. In `koboshi.toml` the project's own tables are
left to `project_file`. No function below the commands takes the whole configuration.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from koboshi_tools import UsageError

from .config_values import Settings

PROJECT_FILE = "koboshi.toml"
SYSTEM_FILE = Path("/etc/koboshi/config.toml")
DEFAULT = "default"
_PREFIX = "KOBOSHI_"
_NEST = "__"
_PROJECT_TABLES = frozenset({"agent", "outcome", "tools", "policy"})


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, and by dotted key the layer that gave each value."""

    settings: Settings
    origins: Mapping[str, str]


class _Layer(NamedTuple):
    origin: str
    values: dict[str, Any]


def find_project(start: Path) -> Path | None:
    """Return the nearest folder, `start` or a parent, that holds a `koboshi.toml`."""
    start = start.absolute()
    return next((folder for folder in (start, *start.parents) if (folder / PROJECT_FILE).is_file()), None)


def load_config(
    project_dir: Path | None,
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Config:
    """Read every layer and return the configuration.

    Args:
        project_dir: the folder with `koboshi.toml`, or None outside a project.
        flags: dotted keys with their values; None means that the flag was not given.
        environment: instead of the process's own.
        system_file: the machine's file.

    Raises:
        UsageError: an unknown key, a value of the wrong kind, or a file that is not TOML; all are named.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_keys(), DEFAULT)
    for layer in _layers(project_dir, flags or {}, environment, system_file):
        for key, value in layer.values.items():
            _known(key, layer.origin)
            values[key] = value
            origins[key] = layer.origin
    return Config(settings=_validated(values, origins), origins=origins)


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables as one dict of dotted keys; an empty table disappears."""
    found: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": inner for key, inner in flat(value).items()}
        else:
            found[name] = value
    return found


def _keys() -> list[str]:
    return list(flat(Settings().model_dump()))


def _layers(
    project_dir: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str], system_file: Path
) -> Iterable[_Layer]:
    base = environment.get("XDG_CONFIG_HOME", "")
    user = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    yield _file_layer(system_file)
    yield _file_layer(user / "koboshi" / "config.toml")
    if project_dir is not None:
        yield _file_layer(project_dir / PROJECT_FILE, leave=_PROJECT_TABLES)
    for name, value in sorted(environment.items()):
        if key := _variable_key(name):
            yield _Layer(name, {key: value})
    for key, value in flags.items():
        if value is not None:
            yield _Layer(f"flag for {key}", {key: value})


def _file_layer(path: Path, leave: frozenset[str] = frozenset()) -> _Layer:
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        return _Layer(str(path), {})
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    return _Layer(str(path), flat({name: value for name, value in tables.items() if name not in leave}))


def _variable_key(name: str) -> str | None:
    """Return the dotted key that a variable sets; None for a variable that is no setting, such as KOBOSHI_HOME."""
    if not name.startswith(_PREFIX):
        return None
    rest = name.removeprefix(_PREFIX)
    if _NEST in rest:
        return rest.lower().replace(_NEST, ".")
    meant = {key.replace(".", "_"): key for key in _keys()}.get(rest.lower())
    if meant:
        right = _PREFIX + meant.upper().replace(".", _NEST)
        raise UsageError(f"{name} sets nothing: table and key are parted by two underscores", hint=f"Use {right}")
    return None


def _known(key: str, origin: str) -> None:
    known = _keys()
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else "See the known keys with: koboshi config show"
    raise UsageError(f"{origin}: unknown key {key!r}", hint=hint)


def _validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = value
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{origins.get(key, 'settings')}: {key} is {first['input']!r}: {first['msg']}") from error
