"""The pointer file: which model is live, which was before it, and how models may move between their states.

It is the one truth about states: a model that it does not name is a candidate. It is replaced atomically, under the
registry's lock, so that a reader finds the old pointer or the new and a crash leaves one of them.
"""

from pathlib import Path

from pydantic import ValidationError

from koboshi_tools import Frozen, KoboshiError

from ..files import replace_file
from .manifest import TRANSITIONS, ModelState


class Pointer(Frozen):
    """Hashes by state. `served` holds every model that was ever current, in order of its first time."""

    current: str | None = None
    previous: str | None = None
    retired: tuple[str, ...] = ()
    served: tuple[str, ...] = ()

    def state_of(self, model_hash: str) -> ModelState:
        """Return where a model stands."""
        if model_hash == self.current:
            return ModelState.CURRENT
        if model_hash == self.previous:
            return ModelState.PREVIOUS
        return ModelState.RETIRED if model_hash in self.retired else ModelState.CANDIDATE

    def with_current(self, model_hash: str) -> "Pointer":
        """Return the pointer after `model_hash` went live: the current becomes previous, the previous retires."""
        if model_hash == self.current:
            return self
        retired = [known for known in self.retired if known != model_hash]
        if self.previous not in {None, model_hash}:
            retired.append(str(self.previous))
        served = self.served if model_hash in self.served else (*self.served, model_hash)
        return Pointer(current=model_hash, previous=self.current, retired=tuple(retired), served=served)

    def with_retired(self, model_hash: str) -> "Pointer":
        """Return the pointer after a candidate was refused. Raises KoboshiError if it is none."""
        if (state := self.state_of(model_hash)) is ModelState.RETIRED:
            return self
        if state is not ModelState.CANDIDATE:
            raise KoboshiError(f"{model_hash} is {state}; only a candidate can be retired")
        return self.model_copy(update={"retired": (*self.retired, model_hash)})


def read_pointer(path: Path) -> Pointer:
    """Return the pointer; an empty one where the file is missing. Raises KoboshiError if it does not parse."""
    try:
        return Pointer.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Pointer()
    except ValidationError as error:
        raise KoboshiError(
            f"the pointer file {path} does not parse", hint="Move it away, then: koboshi models promote REF"
        ) from error


def move(path: Path, old: Pointer, new: Pointer) -> None:
    """Replace the pointer durably. Raises KoboshiError if a model would change state in a way that is not allowed."""
    named = {old.current, old.previous, *old.retired, new.current, new.previous, *new.retired} - {None}
    for model_hash in sorted(str(name) for name in named):
        before, after = old.state_of(model_hash), new.state_of(model_hash)
        if before is not after and after not in TRANSITIONS[before]:
            raise KoboshiError(f"{model_hash} cannot go from {before} to {after}")
    replace_file(path, new.model_dump_json(indent=2).encode() + b"\n")
