"""Give sequences to jobs and fill every decode with as many of them as fit.

A slot keeps the ids that its sequence holds after a job is done, so that the next turn of a run decodes only what is
new, and another run that begins alike shares the cells of the beginning. A job whose beginning is just being decoded
for another waits for it, so that sixteen runs that start together decode their common prefix once. At each step every
job that is writing gets its next tokens into the batch, and what room is left goes to prompts, oldest first. A job that
fails ends alone; a decode that fails ends the jobs that shared it, and their sequences are forgotten.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from koboshi_tools import KoboshiError

from ..llama import Engine
from .jobs import Job
from .sampling import Rows

# Fewer tokens than this are a turn going on, not a prompt: they go into the batch first.
_PROMPT_TOKENS = 24

# Waiting for another job's beginning costs a step or more: it pays from about this many tokens on.
_WAIT_WORTH_TOKENS = 24


@dataclass(slots=True)
class Slot:
    """One sequence: the ids in its cells, and the job that holds it."""

    sequence: int
    ids: list[int] = field(default_factory=list)
    active: "Active | None" = None
    last_used: int = 0


@dataclass(slots=True)
class Active:
    """A job with its slot, the count of what it cost, and what ended it early."""

    key: int
    job: Job
    slot: Slot
    reused_tokens: int
    decoded_tokens: int = 0
    error: Exception | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to decode for it."""
        return self.job.done or self.error is not None


class Share(NamedTuple):
    """The part of one decode that belongs to a job."""

    active: Active
    tokens: int
    rows: int


class Scheduler:
    """Runs jobs on an engine; `add` queues, `step` decodes once, and returns the jobs that are done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slots = [Slot(sequence) for sequence in range(engine.settings.parallel)]
        self._waiting: deque[tuple[int, Job]] = deque()
        self._clock = 0

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._waiting) or any(slot.active for slot in self._slots)

    def add(self, key: int, job: Job) -> None:
        """Queue a job under the client's key."""
        self._waiting.append((key, job))

    def cancel(self, key: int) -> None:
        """Forget a job, waiting or running; an unknown key is a job that is already done."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != key)
        for slot in self._slots:
            if slot.active and slot.active.key == key:
                slot.active = None

    def step(self) -> list[Active]:
        """Admit what fits, decode one batch, hand out its rows, and return the jobs that finished or failed."""
        self._admit()
        self._decode_one_batch()
        finished = [slot.active for slot in self._slots if slot.active and slot.active.ended]
        for active in finished:
            self._clock += 1
            active.slot.active, active.slot.last_used = None, self._clock
        return finished

    def _admit(self) -> None:
        held = deque[tuple[int, Job]]()
        while self._waiting and any(slot.active is None for slot in self._slots):
            key, job = self._waiting.popleft()
            if self._is_coming(job):
                held.append((key, job))
            else:
                self._place(key, job)
        self._waiting = held + self._waiting

    def _is_coming(self, job: Job) -> bool:
        """Say whether a longer beginning of the job than any in the cache is just being decoded for another."""
        limit = _reusable(job)
        here = max(_common(slot.ids, job.pending, limit) for slot in self._slots)
        coming = [slot.ids + slot.active.job.pending for slot in self._slots if slot.active]
        return any(_common(ids, job.pending, limit) >= here + _WAIT_WORTH_TOKENS for ids in coming)

    def _place(self, key: int, job: Job) -> None:
        self._clock += 1
        limit = _reusable(job)
        free = [slot for slot in self._slots if slot.active is None]
        slot = max(free, key=lambda slot: (_common(slot.ids, job.pending, limit), -slot.last_used))
        own = _common(slot.ids, job.pending, limit)
        source = max(self._slots, key=lambda other: _common(other.ids, job.pending, limit))
        shared = _common(source.ids, job.pending, limit)
        if shared > own:
            slot = min(free, key=lambda slot: slot.last_used)
            if slot is not source:
                self._engine.share(source.sequence, slot.sequence, shared)
                slot.ids = source.ids[:shared]
            own = shared
        self._engine.forget(slot.sequence, own)
        own = min(own, self._engine.kept(slot.sequence))
        slot.ids = slot.ids[:own]
        job.pending, job.wanted = job.pending[own:], job.wanted[own:]
        slot.last_used = self._clock
        slot.active = Active(key, job, slot, reused_tokens=own)

    def _decode_one_batch(self) -> None:
        order = sorted(
            (slot.active for slot in self._slots if slot.active and not slot.active.ended),
            key=lambda active: (len(active.job.pending) > _PROMPT_TOKENS, active.slot.last_used),
        )
        tokens: list[int] = []
        positions: list[int] = []
        sequences: list[int] = []
        wanted: list[bool] = []
        shares: list[Share] = []
        for active in order:
            count = min(len(active.job.pending), self._engine.settings.batch_tokens - len(tokens))
            if count == 0:
                break
            start = len(active.slot.ids)
            tokens += active.job.pending[:count]
            positions += range(start, start + count)
            sequences += [active.slot.sequence] * count
            wanted += active.job.wanted[:count]
            shares.append(Share(active, count, sum(active.job.wanted[:count])))
        if not tokens:
            return
        try:
            logits = self._engine.decode(tokens, positions, sequences, wanted)
        except KoboshiError as error:
            self._fail(shares, error)
            return
        self._hand_out(shares, Rows.of(logits))

    def _fail(self, shares: Sequence[Share], error: KoboshiError) -> None:
        for share in shares:
            share.active.error = error
            # What the cache holds after a failed decode is unknown.
            self._engine.forget(share.active.slot.sequence, 0)
            share.active.slot.ids = []

    def _hand_out(self, shares: Sequence[Share], rows: Rows) -> None:
        first = 0
        for share in shares:
            job, slot = share.active.job, share.active.slot
            slot.ids += job.pending[: share.tokens]
            job.pending, job.wanted = job.pending[share.tokens :], job.wanted[share.tokens :]
            share.active.decoded_tokens += share.tokens
            if share.rows:
                try:
                    job.take(rows.part(first, first + share.rows))
                except Exception as error:
                    # A grammar that gives up in the middle of a reply is that request's misfortune, not the others'.
                    share.active.error = error
            first += share.rows


def _reusable(job: Job) -> int:
    """Return how many of the pending ids may come from the cache: all before the first one whose logits are wanted."""
    return job.wanted.index(True) if True in job.wanted else len(job.pending)


def _common(held: Sequence[int], asked: Sequence[int], limit: int) -> int:
    count = min(len(held), len(asked), limit)
    if count == 0:
        return 0
    differ = np.asarray(held[:count]) != np.asarray(asked[:count])
    return int(differ.argmax()) if differ.any() else count
