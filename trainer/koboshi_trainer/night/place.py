"""Where a night keeps what it has done: one lock, a word about who is at work, and a folder of finished stages.

The lock is the kernel's and goes with its process. `runs/nights/ID/` of the home holds the result of each finished
stage of a night that has not ended; a night that was killed is found by it and goes on. The folder goes when the night
has ended and its job is closed in the store: what the night came to is in the store and under `reports/` by then.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from koboshi_runtime.files import TEMPORARY, replace_file, try_locked
from koboshi_runtime.home import Home
from koboshi_runtime.ids import new_id, utc_now
from koboshi_runtime.night_sign import AtWork, at_work, sign_of
from koboshi_runtime.store.owner import this_process
from koboshi_tools import Frozen, KoboshiError

Result = TypeVar("Result", bound=Frozen)

_LOCK = "nightly.lock"
_BEGUN, _SECONDS = "begun.json", "seconds.json"


class NightBusyError(KoboshiError):
    """Another night is at work in this home."""


class Begun(Frozen):
    """A night that has begun: its id, when, and the project it is for."""

    night_id: str
    began_at: str
    project: str


@dataclass(slots=True)
class Night:
    """A night that has not ended; `resumed` says that an earlier attempt was cut off, `tell` is told each stage."""

    home: Home
    begun: Begun
    resumed: bool
    tell: Callable[[str], None] = lambda stage: None
    _stage: str = ""
    _since: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """Where its finished stages lie."""
        return _nights(self.home) / self.begun.night_id

    def keep(self, name: str, kind: type[Result], make: Callable[[], Result]) -> Result:
        """Return the result of a stage, made now unless an earlier attempt finished it."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return kind.model_validate_json(path.read_bytes())
        result = make()
        replace_file(path, result.model_dump_json(indent=1).encode() + b"\n")
        return result

    def at(self, stage: str) -> None:
        """Say which stage is at work from now on; the time until now was the last one's."""
        now = time.monotonic()
        if self._stage:
            seconds = self.seconds()
            seconds[self._stage] = round(seconds.get(self._stage, 0.0) + now - self._since, 2)
            replace_file(self.folder / _SECONDS, json.dumps(seconds).encode())
        self._stage, self._since = stage, now
        told = AtWork(
            owner=this_process(), pid=os.getpid(), project=self.begun.project, since=self.begun.began_at, stage=stage
        )
        replace_file(sign_of(self.home), told.model_dump_json().encode())
        self.tell(stage)

    def seconds(self) -> dict[str, float]:
        """Return what each stage took so far, over all attempts, but for the one at work."""
        try:
            found: dict[str, float] = json.loads((self.folder / _SECONDS).read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def forget(self) -> None:
        """Remove the folder: the night has ended."""
        gone = self.folder.with_name(f"{TEMPORARY}{self.begun.night_id}")
        self.folder.rename(gone)
        shutil.rmtree(gone)


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """Hold the lock of nights. Raises NightBusyError at once if somebody else holds it."""
    with try_locked(home.run / _LOCK) as held:
        if not held:
            raise _busy(at_work(home))
        try:
            yield
        finally:
            sign_of(home).unlink(missing_ok=True)


def open_night(home: Home, project: str, *, ended: Callable[[str], bool]) -> Night:
    """Return the night that was cut off, or begin one; the lock is held.

    `ended` says whether a night's job is closed: then only its folder was left.
    """
    for path in sorted(_nights(home).glob("[!.]*/" + _BEGUN)):
        night = Night(home, Begun.model_validate_json(path.read_bytes()), resumed=True)
        if ended(night.begun.night_id):
            night.forget()
        elif night.begun.project == project:
            return night
    for leftover in _nights(home).glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover)
    night = Night(home, Begun(night_id=new_id(), began_at=utc_now(), project=project), resumed=False)
    night.folder.mkdir(parents=True, mode=0o700)
    replace_file(night.folder / _BEGUN, night.begun.model_dump_json().encode())
    return night


def _nights(home: Home) -> Path:
    return home.runs / "nights"


def _busy(found: AtWork | None) -> NightBusyError:
    if found is None:
        return NightBusyError("another night is just beginning in this home", hint="See: koboshi nightly status")
    return NightBusyError(
        f"a night is at work already: process {found.pid}, for {found.project}, at {found.stage}, since {found.since}",
        hint="It goes on by itself. See: koboshi nightly status",
    )
