"""`koboshi trust`: see what a project would have this machine do, and agree to it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .context import echo_json, open_home, progress, project_dir, table

if TYPE_CHECKING:
    from ..home import Home
    from ..trust import TrustState

_SHOWN_DIGEST = len("sha256:") + 12
_SHORTEST_HASH = 8


@click.command()
@click.option("--hash", "agreed", metavar="HASH", help="Agree without being asked if this is found; 8 or more.")
@click.option("--forget", is_flag=True, help="Take back what was agreed to.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def trust(agreed: str | None, forget: bool, as_json: bool) -> None:
    """Show what a project would run here, and agree to it.

    Example: koboshi trust -C their-agent
    """
    from koboshi_tools import UsageError

    from .. import trust as trusting
    from ..project import load_project

    folder = project_dir()
    if folder is None:
        raise UsageError("there is no project here to trust", hint="Name it with -C DIR.")
    home, project = open_home(), load_project(folder)
    if forget:
        known = trusting.forget(home, project.root)
        progress(f"{project.root} is {'no longer' if known else 'not'} trusted.")
        return
    state = trusting.trust_state(home, project)
    show(state, as_json=as_json)
    if state.trusted:
        progress(_standing(state))
        return
    if agreed is None and not _asked(state):
        raise _refusal(state)
    if agreed is not None and not _names(agreed, state.digest):
        raise UsageError(f"what is found has the hash {state.digest}, not {agreed}", hint="Read what changed first.")
    trusting.pin(home, state)
    progress(f"{state.root} is trusted as it is now; any change asks again.")


def show(state: "TrustState", *, as_json: bool) -> None:
    """Print everything that a project contributes, and how it stands to what was agreed to."""
    if as_json:
        found = [{"sign": change.sign, **change.contribution.model_dump(mode="json")} for change in state.changes()]
        echo_json({"root": str(state.root), "hash": state.digest, "trusted": state.trusted, "contributions": found})
        return
    table(("", "kind", "name", "what it is", "digest"), _rows(state))


def ask_for_trust(home: "Home", folder: Path | None) -> None:
    """Where somebody can answer, ask about a project that is not trusted; where nobody can, opening it refuses it.

    Raises UntrustedError if the answer is no.
    """
    from .. import trust as trusting
    from ..project import load_project
    from .terminal import attended

    if folder is None or not attended():
        return
    state = trusting.trust_state(home, load_project(folder))
    if state.trusted:
        return
    for row in _rows(state):
        progress("  ".join(row))
    if not _asked(state):
        raise trusting.untrusted(state)
    trusting.pin(home, state)


def _rows(state: "TrustState") -> list[tuple[str, ...]]:
    found = [(change.sign, change.contribution) for change in state.changes()]
    return [(sign, one.kind, one.name, one.detail, one.digest[:_SHOWN_DIGEST]) for sign, one in found]


def _standing(state: "TrustState") -> str:
    if state.pin is None:
        return f"{state.root} brings nothing that would run here: there is nothing to agree to."
    return f"{state.root} is trusted as it is, since {state.pin.pinned_at}."


def _asked(state: "TrustState") -> bool:
    from ..text import plain
    from .terminal import attended

    if not attended():
        return False
    changed = "It changed since you agreed to it. " if state.pin else ""
    return click.confirm(f"{changed}Let {plain(str(state.root))} do all this on this machine?", err=True)


def _refusal(state: "TrustState") -> Exception:
    from ..trust import untrusted

    refused = untrusted(state)
    command = f"koboshi trust -C {state.root} --hash {state.digest[:_SHOWN_DIGEST]}"
    refused.hint = f"To agree to what is shown here: {command}"
    return refused


def _names(given: str, digest: str) -> bool:
    """Say whether a hash or its beginning, with or without its algorithm, is that of what was found."""
    short = given.removeprefix("sha256:")
    return len(short) >= _SHORTEST_HASH and digest.removeprefix("sha256:").startswith(short)
