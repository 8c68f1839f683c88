"""What the screens look at: one home with its store, the project whose rules hold, and nothing that draws.

Everything a screen shows is asked for here or in the runtime's own modules, and everything it does is a function that
the command line calls as well.
"""

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from koboshi_policies import Answer

from ..approvals import answer_approval, approvals, find_approval
from ..home import Home
from ..ids import utc_now
from ..models.pieces import pieces_of
from ..models.pointer import read_pointer
from ..records import Outcome, OutcomeLabel, OutcomeSource
from ..store import RunFilter, Store
from ..store.owner import is_alive
from ..store.runs import RunPage, list_runs, list_tools

PAGE = 100
"""Rows that a list reads at once: more than any terminal shows."""

HITS = 5_000
"""Places in each full-text index, the newest ones, in which a list looks for a text."""


@dataclass(frozen=True, slots=True)
class Look:
    """The home that is looked at; `sample` says that it was made up to be looked at."""

    home: Home
    store: Store
    project: Path | None = None
    sample: bool = False

    def runs(self, wanted: RunFilter) -> RunPage:
        """Return one page of the runs that `wanted` describes, the newest first."""
        with self.store.reading() as db:
            return list_runs(db, wanted, HITS)

    def tools(self) -> tuple[str, ...]:
        """Return the tools that were ever called."""
        with self.store.reading() as db:
            return list_tools(db)

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that were recorded, the newest first."""
        return tuple(model.name for model in reversed(self.store.models()))

    def label(self, run_id: str, label: OutcomeLabel) -> OutcomeLabel:
        """Label a run in the user's name, and return the verdict that counts now: a checker's outranks a person's."""
        who = getpass.getuser()
        self.store.add_outcome(run_id, Outcome(label=label, source=OutcomeSource.PERSON, who=who))
        return self.store.trajectory(run_id).outcome

    def take_back(self, run_id: str) -> OutcomeLabel:
        """Take a person's last label of a run back, and return the verdict that counts now."""
        self.store.take_back_label(run_id, getpass.getuser())
        return self.store.trajectory(run_id).outcome

    def answer(self, approval_id: str, answer: Answer) -> str:
        """Answer a question in the user's name, and return where it stands. Raises StoreRuleError if it is late."""
        answer_approval(self.store, approval_id, answer, who=getpass.getuser())
        return find_approval(self.store, approval_id).state(utc_now())

    def questions(self) -> int:
        """Return how many calls can be answered now."""
        return len(approvals(self.store))

    def live_model(self) -> str:
        """Return the name of the live model, or that there is none."""
        model_hash = read_pointer(self.home.models / "current").current
        if model_hash is None:
            return "no model"
        return next((model.name for model in self.store.models() if model.model_hash == model_hash), model_hash)

    def night_stage(self) -> str | None:
        """Return the stage at which a night is at work now, as the night itself keeps it in `run/`, or None."""
        try:
            found = json.loads((self.home.run / "nightly.json").read_bytes())
            return str(found["stage"]) if is_alive(found["owner"]) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pieces(self, model_hash: str) -> Mapping[int, bytes] | None:
        """Return what each token of a model stands for, or None where its file is not here."""
        return pieces_of(self.home, model_hash)


class Changes:
    """Notices that somebody wrote to a store, without asking SQLite: by its files' sizes and times.

    The clock of files ticks every few milliseconds: a second write in the same tick is not seen. So each change is told
    twice, the second time when it has settled.
    """

    def __init__(self, store: Store) -> None:
        self._files = (store.path, store.path.with_name(store.path.name + "-wal"))
        self._seen: list[tuple[int, int] | None] = []
        self._once_more = False

    def any(self) -> bool:
        """Return whether something was written lately; the first call says yes."""
        found = [_facts(path) for path in self._files]
        changed, told = found != self._seen, self._once_more
        self._seen, self._once_more = found, changed
        return changed or told


def _facts(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
