"""The ledger of gates: one budget for false promotions in any thirty nights, and which tasks each gate used.

The alphas granted within any thirty days sum to at most `budget`. By the union bound, whatever the gates share (tasks,
models, earlier verdicts), that is the most by which a month in which no candidate is better can promote one. A gate is
granted its alpha before it runs, and the grant is on disk before it is told: a crash, a refusal and a verdict that
nobody read cost as much as a verdict. Nights without a gate cost nothing. A promotion earns nothing back.

An alpha has two parts. The nightly part is the same every night, so that the last night of thirty can still promote.
The pooled part is half of what a common pool still holds, so that whoever gates rarely, or for the first time, gets
most of it. The rest is held back (`docs/decisions/0010-error-budget.md` says why, and gives the simulations).

The file is append-only JSON Lines under an exclusive lock, fsynced. A line cut off by power loss was never granted and
is removed by the next writer; any other line that cannot be read is an error, since guessing would grant twice.
Covered: concurrent gates, crashes, clocks that go backwards (grants in the future count as spent). Not covered: a clock
set forward by days, or somebody who edits the file.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from koboshi_runtime.files import locked, sync_folder
from koboshi_runtime.ids import new_id
from koboshi_tools import Frozen, KoboshiError, RefusedError, UsageError, canonical_json

from .values import ERROR_BUDGET, GateBudget

FILE_NAME = "gate-ledger.jsonl"
NIGHTS = 30

_WINDOW = timedelta(days=NIGHTS)
# Nights begin at different hours; two grants within 20 hours belong to one night.
_ONE_NIGHT = timedelta(hours=20)
_NIGHTLY_SHARE = 0.5
_POOL_SHARE = 0.2
_DRAWN = 0.5
# Rounding of sums of floats must not make a spent budget look available.
_LEAST = 1e-9


class Grant(Frozen):
    """An alpha, spent from the moment it is written; `tasks` are the keys of the gate tasks that it is for."""

    kind: Literal["grant"] = "grant"
    grant_id: str
    at: AwareDatetime
    nightly: float = Field(ge=0)
    pooled: float = Field(ge=0)
    current: str
    candidate: str
    tasks: tuple[str, ...] = ()

    @property
    def alpha(self) -> float:
        """The chance of a false promotion that this gate may spend."""
        return self.nightly + self.pooled

    @property
    def budget(self) -> GateBudget:
        """What `judge_gate` is given."""
        return GateBudget(grant_id=self.grant_id, alpha=self.alpha)


class Spent(Frozen):
    """What came of a grant; a grant without it is one whose gate crashed."""

    kind: Literal["spent"] = "spent"
    grant_id: str
    at: AwareDatetime
    accepted: bool
    p_value: float
    verdict_hash: str


Entry = Annotated[Grant | Spent, Field(discriminator="kind")]
_ENTRY: TypeAdapter[Grant | Spent] = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class Alpha:
    """The two parts of an alpha; see the module."""

    nightly: float
    pooled: float


class Ledger:
    """The ledger at `path`; every call reads the file anew."""

    def __init__(self, path: Path, *, budget: float = ERROR_BUDGET) -> None:
        """Open the ledger; the file is made by the first grant. Raises UsageError for a budget outside (0, 0.05]."""
        if not 0 < budget <= ERROR_BUDGET:
            raise UsageError(f"the gate's error budget is {budget}", hint=f"Give one above 0 and up to {ERROR_BUDGET}.")
        self._path = path
        self._budget = budget

    def offer(self, at: datetime) -> float:
        """Return the alpha that a grant at `at` would carry, without granting; 0 if nothing is left."""
        offered = allowance(self.grants(), at, budget=self._budget)
        return offered.nightly + offered.pooled

    def grant(self, at: datetime, *, current: str, candidate: str, tasks: Sequence[str] = ()) -> Grant:
        """Spend an alpha on one gate and return it, once it is on disk.

        Args:
            at: now, with its time zone.
            current: hash of the model in use.
            candidate: hash of the model to be judged.
            tasks: keys of the gate tasks, as `gate_tasks.GateChoice.keys` gives them.

        Raises:
            RefusedError: the budget of the thirty days is spent.
            KoboshiError: the file holds a line that cannot be read.
        """
        with locked(self._lock()):
            offered = allowance(_grants(self._read()), at, budget=self._budget)
            if offered.nightly + offered.pooled < _LEAST:
                raise RefusedError(
                    f"the gate's error budget of {self._budget} for {NIGHTS} nights is spent",
                    hint="Wait: what was granted thirty days ago comes back each night.",
                )
            granted = Grant(
                grant_id=new_id(),
                at=at.astimezone(UTC),
                nightly=offered.nightly,
                pooled=offered.pooled,
                current=current,
                candidate=candidate,
                tasks=tuple(tasks),
            )
            self._append(granted)
        return granted

    def spend(self, grant_id: str, at: datetime, *, accepted: bool, p_value: float, verdict_hash: str) -> None:
        """Record the verdict of a grant; its alpha was spent when it was granted, whatever the verdict.

        Raises:
            UsageError: there is no such grant, or its verdict was recorded before: one grant pays for one gate.
        """
        with locked(self._lock()):
            entries = self._read()
            if all(entry.grant_id != grant_id for entry in entries):
                raise UsageError(f"the gate ledger has no grant {grant_id!r}", hint="Grant an alpha before the gate.")
            if any(isinstance(entry, Spent) and entry.grant_id == grant_id for entry in entries):
                raise UsageError(f"the grant {grant_id!r} has its verdict already", hint="Grant a new one.")
            self._append(
                Spent(
                    grant_id=grant_id,
                    at=at.astimezone(UTC),
                    accepted=accepted,
                    p_value=p_value,
                    verdict_hash=verdict_hash,
                )
            )

    def entries(self) -> tuple[Grant | Spent, ...]:
        """Return all lines, oldest first. Raises KoboshiError at one that cannot be read."""
        return tuple(self._read())

    def grants(self) -> tuple[Grant, ...]:
        """Return all grants, oldest first. Raises KoboshiError at a line that cannot be read."""
        return _grants(self._read())

    def unfinished(self, at: datetime, *, current: str, candidate: str) -> Grant | None:
        """Return the grant of this night for a gate between these models that has no verdict yet, if there is one.

        Its alpha is spent. A gate that was cut off goes on with it: the same tasks, and one verdict for one alpha.
        """
        entries = self._read()
        judged = {entry.grant_id for entry in entries if isinstance(entry, Spent)}
        found = [
            grant
            for grant in _grants(entries)
            if (grant.current, grant.candidate) == (current, candidate)
            and grant.grant_id not in judged
            and grant.at > at - _ONE_NIGHT
        ]
        return found[-1] if found else None

    def last_used(self) -> dict[str, int]:
        """Return for each task that a gate ever used the number of the last grant that did, counted from 0."""
        return {task: number for number, grant in enumerate(self.grants()) for task in grant.tasks}

    def _lock(self) -> Path:
        return self._path.with_name(self._path.name + ".lock")

    def _read(self) -> list[Grant | Spent]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        return [self._entry(number, line) for number, line in enumerate(lines, start=1)]

    def _entry(self, number: int, line: bytes) -> Grant | Spent:
        try:
            return _ENTRY.validate_json(line)
        except ValidationError as error:
            raise KoboshiError(
                f"line {number} of {self._path} is not an entry of the gate ledger: {line[:80]!r}",
                hint="Restore the file from a backup; without it no alpha can be granted.",
            ) from error

    def _append(self, entry: Grant | Spent) -> None:
        line = canonical_json(json.loads(entry.model_dump_json())).encode() + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            file.seek(whole)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._path.parent)


def allowance(grants: Sequence[Grant], at: datetime, *, budget: float = ERROR_BUDGET) -> Alpha:
    """Return the alpha that may be granted at `at` after `grants`; the window rolls, and the future counts as spent."""
    recent = [grant for grant in grants if grant.at > at - _WINDOW]
    nightly_left = budget * _NIGHTLY_SHARE - sum(grant.nightly for grant in recent)
    pool_left = budget * _POOL_SHARE - sum(grant.pooled for grant in recent)
    tonight = any(grant.nightly > 0 and grant.at > at - _ONE_NIGHT for grant in recent)
    nightly = 0.0 if tonight else min(budget * _NIGHTLY_SHARE / NIGHTS, nightly_left)
    return Alpha(nightly=max(0.0, nightly), pooled=max(0.0, _DRAWN * pool_left))


def _grants(entries: Sequence[Grant | Spent]) -> tuple[Grant, ...]:
    return tuple(entry for entry in entries if isinstance(entry, Grant))
