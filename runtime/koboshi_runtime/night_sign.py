"""The sign that a night is at work in a home: who, since when, at which stage. It counts while that process lives.

A server reads it to give a night the memory and the GPU that its own model holds.
"""

from pathlib import Path

from pydantic import ValidationError

from koboshi_tools import Frozen

from .config_values import Settings
from .home import Home
from .store.owner import is_alive


class AtWork(Frozen):
    """Who is at work, since when, and at which stage."""

    owner: str
    pid: int
    project: str
    since: str
    stage: str


def sign_of(home: Home) -> Path:
    """Return where the sign stands."""
    return home.run / "nightly.json"


def at_work(home: Home) -> AtWork | None:
    """Return who is at work, or None."""
    try:
        found = AtWork.model_validate_json(sign_of(home).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return found if is_alive(found.owner) else None


def rests(settings: Settings) -> bool:
    """Return whether a server with these settings gives its model up at night."""
    return settings.serve.rest == "always" or (settings.serve.rest == "auto" and settings.worker.gpu_layers > 0)
