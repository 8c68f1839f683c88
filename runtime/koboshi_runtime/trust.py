"""Which projects may have this machine do something: those whose contributions a person has seen and pinned.

A pin names a folder and the hash of all that the project in it contributes. It lies in the home, out of the project's
reach and every tool's. A project that was never pinned, or that changed since, is refused before any of its code runs,
before its rules apply and before its servers start. One that brings nothing but prompts, budgets and tasks needs no
pin. `koboshi init` pins what it makes; what koboshi itself writes into a trusted project at a person's word keeps the
project trusted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from koboshi_tools import Frozen, RefusedError, hash_bytes

from .contributions import Contribution, acts, contributions, whole_digest
from .files import replace_file
from .home import Home
from .ids import utc_now
from .project import Project, load_project

_NAME_DIGITS = 32


class UntrustedError(RefusedError):
    """A project would have something run that nobody has agreed to."""


class Pin(Frozen):
    """What a person agreed to: where, when, and each contribution, so that a change can be named."""

    root: str
    digest: str
    pinned_at: str
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """How a contribution stands to what was pinned."""

    sign: Literal["new", "changed", "gone", "same"]
    contribution: Contribution


@dataclass(frozen=True, slots=True)
class TrustState:
    """A project beside its pin; `pin` is None if it never had one."""

    root: Path
    found: tuple[Contribution, ...]
    pin: Pin | None

    @property
    def digest(self) -> str:
        """The hash of what the project contributes now."""
        return whole_digest(self.found)

    @property
    def trusted(self) -> bool:
        """Whether it may contribute: it is as it was pinned, or contributes nothing that acts."""
        return not acts(self.found) or (self.pin is not None and self.pin.digest == self.digest)

    def changes(self) -> list[Change]:
        """Return every contribution with how it stands to the pin, those that are gone at the end."""
        before = {(one.kind, one.name): one for one in self.pin.contributions} if self.pin else {}
        told: list[Change] = []
        for one in self.found:
            old = before.pop((one.kind, one.name), None)
            sign: Literal["new", "changed", "same"] = "same" if old and old.digest == one.digest else "changed"
            told.append(Change(sign if old else "new", one))
        return [*told, *(Change("gone", one) for one in before.values())]


def trust_state(home: Home, project: Project) -> TrustState:
    """Return how a project stands to its pin. Raises UsageError where something of it cannot be pinned."""
    return TrustState(project.root, contributions(project), _read(home, project.root))


def require_trust(home: Home, project: Project) -> None:
    """Raise UntrustedError, which says what to type, unless the project may contribute."""
    state = trust_state(home, project)
    if not state.trusted:
        raise untrusted(state)


def untrusted(state: TrustState) -> UntrustedError:
    """Return the error that refuses a project, with the command that shows it."""
    changed = [change for change in state.changes() if change.sign != "same"]
    # What acts is named before the file that sets it up.
    changed.sort(key=lambda change: change.contribution.kind == "config")
    names = ", ".join(f"{change.contribution.kind} {change.contribution.name}" for change in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    since = "changed since it was trusted" if state.pin else "is not trusted here, and would contribute"
    return UntrustedError(
        f"the project {state.root} {since}: {names}{more}", hint=f"See it and decide: koboshi trust -C {state.root}"
    )


def pin(home: Home, state: TrustState) -> None:
    """Agree to a project as it was found."""
    agreed = Pin(root=str(state.root), digest=state.digest, pinned_at=utc_now(), contributions=state.found)
    replace_file(_path(home, state.root), agreed.model_dump_json().encode())


def pin_new(home: Home, root: Path) -> None:
    """Agree to the project that koboshi has just made in `root`."""
    pin(home, trust_state(home, load_project(root)))


def forget(home: Home, root: Path) -> bool:
    """Take back what was agreed to; False if there was nothing."""
    path = _path(home, root)
    if not path.exists():
        return False
    path.unlink()
    return True


@contextmanager
def kept_trusted(home: Home, project: Project) -> Iterator[None]:
    """Let koboshi change a project at a person's word: if it was trusted before the block, it is after it."""
    before = trust_state(home, project)
    yield
    if before.trusted and before.pin is not None:
        pin(home, trust_state(home, load_project(project.root)))


def _path(home: Home, root: Path) -> Path:
    return home.trust / f"{hash_bytes(str(root).encode()).removeprefix('sha256:')[:_NAME_DIGITS]}.json"


def _read(home: Home, root: Path) -> Pin | None:
    try:
        found = Pin.model_validate_json(_path(home, root).read_bytes())
    except (FileNotFoundError, ValidationError):
        # What cannot be read agrees to nothing.
        return None
    return found if found.root == str(root) else None
