"""Where the layers of a policy lie.

In this order: the system's folder, the user's, the project's, and what the command line names. Only where not one of
them holds a file does the preset `default` take their place, so that koboshi is of use before anything is written.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from koboshi_tools import UsageError

from .policy import PolicyLayer

SYSTEM_FOLDER = Path("/etc/koboshi/policies")
_PRESETS = Path(__file__).parent / "presets"


def preset(name: str) -> Path:
    """Return the file of a policy that comes with koboshi. Raises UsageError if there is none of that name."""
    path = _PRESETS / f"{name}.toml"
    names = preset_names()
    if name not in names:
        raise UsageError(f"there is no policy preset {name!r}", hint=f"There are: {', '.join(names)}.")
    return path


def preset_names() -> tuple[str, ...]:
    """Return the names of the policies that come with koboshi."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


def policy_layers(
    project: Sequence[Path] = (),
    flags: Sequence[Path] = (),
    *,
    environment: Mapping[str, str] | None = None,
    system: Path = SYSTEM_FOLDER,
) -> tuple[PolicyLayer, ...]:
    """Return the layers that apply.

    Args:
        project: the project's policy files or folders; one that does not exist is an error once it is loaded.
        flags: those of the command line.
        environment: where XDG_CONFIG_HOME and HOME are looked up; by default the process's own.
        system: the system's folder.
    """
    user = _user_folder(os.environ if environment is None else environment)
    layers = [PolicyLayer(name, folder) for name, folder in (("system", system), ("user", user)) if _exists(folder)]
    layers += [PolicyLayer("project", path) for path in project]
    layers += [PolicyLayer("flag", path) for path in flags]
    if any(layer.files() for layer in layers):
        return tuple(layers)
    return (PolicyLayer("default", preset("default")),)


def _user_folder(environment: Mapping[str, str]) -> Path:
    config = environment.get("XDG_CONFIG_HOME", "")
    home = Path(environment.get("HOME") or Path.home())
    return (Path(config) if Path(config).is_absolute() else home / ".config") / "koboshi" / "policies"


def _exists(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        raise UsageError(
            f"cannot look at the policy folder {folder}: {error.strerror}",
            hint="A policy that is there must be readable.",
        ) from error
