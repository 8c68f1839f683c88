"""Give sequences to jobs and fill every decode with as many of them as fit.

A slot keeps the ids that its sequence holds after a job is done, so that the next turn of a run decodes only what is
new, and another run that begins alike shares the cells of the beginning. A job whose beginning is just being decoded
for another waits for it, so that sixteen runs that start together decode their common prefix once. At each step every
job that is writing gets its next tokens into the batch, and what room is left goes to prompts, oldest first. A run
keeps its slot between its turns, while its tools work, until it is released or there is no other slot. A guided reply
has two slots, one for its shadow, which is begun when the writer's prompt is decoded, so that what both have in common
is copied. A job that fails ends alone; a decode that fails ends the jobs that shared it, and their sequences are
forgotten.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from koboshi_tools import KoboshiError

from ..llama import Engine
from .jobs import Job
from .prefixes import LEAST_TOKENS, Prefixes
from .sampling import Rows

# Fewer tokens than this are a turn going on, not a prompt: they go into the batch first.
_PROMPT_TOKENS = 24

# The writer and its shadow.
GUIDED_SLOTS = 2

# Waiting for another job's beginning costs a step or more: it pays from about this many tokens on.
_WAIT_WORTH_TOKENS = 24


@dataclass(slots=True)
class Slot:
    """One sequence: the ids in its cells, the job that decodes in it, and the run that will come back to it."""

    sequence: int
    ids: list[int] = field(default_factory=list)
    active: "Active | None" = None
    run_id: str | None = None
    last_used: int = 0


@dataclass(slots=True)
class Active:
    """A job with its slot, the count of what it cost, and what ended it early; `writer` is whose shadow it is."""

    key: int
    job: Job
    slot: Slot
    reused_tokens: int = 0
    decoded_tokens: int = 0
    error: Exception | None = None
    writer: "Active | None" = None
    begun: bool = False

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to decode for it."""
        return self.job.done or self.error is not None or (self.writer is not None and self.writer.ended)

    def fail(self, error: Exception) -> None:
        """End the job early, and with a shadow its writer."""
        self.error = error
        if self.writer is not None:
            self.writer.error = error


class Waiting(NamedTuple):
    """A job that has no slot yet."""

    key: int
    job: Job
    run_id: str | None


class Share(NamedTuple):
    """The part of one decode that belongs to a job."""

    active: Active
    tokens: int
    rows: int


class Scheduler:
    """Runs jobs on an engine; `add` queues, `step` decodes once, and returns the jobs that are done."""

    def __init__(self, engine: Engine, prefixes: Prefixes | None = None) -> None:
        self._engine = engine
        self._prefixes = prefixes
        self._slots = [Slot(sequence) for sequence in range(engine.settings.parallel)]
        self._waiting: deque[Waiting] = deque()
        self._clock = 0

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._waiting) or any(slot.active for slot in self._slots)

    def at_work(self) -> list[Active]:
        """Return the jobs that have a slot, shadows apart."""
        return [slot.active for slot in self._slots if slot.active and slot.active.writer is None]

    def add(self, key: int, job: Job, run_id: str | None = None) -> None:
        """Queue a job under the client's key; `run_id` is whose turn it is."""
        self._waiting.append(Waiting(key, job, run_id))

    def release(self, run_id: str) -> None:
        """Let others have the slot of a run that has ended; what it holds may still begin another's prompt."""
        for slot in self._slots:
            if slot.run_id in (run_id, _shadow_of(run_id)):
                slot.run_id = None

    def cancel(self, key: int) -> None:
        """Forget a job, waiting or running; an unknown key is a job that is already done."""
        self._waiting = deque(entry for entry in self._waiting if entry.key != key)
        for slot in self._slots:
            if slot.active and slot.active.key == key:
                slot.active = None

    def step(self) -> list[Active]:
        """Admit what fits, decode one batch, hand out its rows, and return the jobs that finished or failed."""
        self._admit()
        self._begin_shadows()
        self._decode_one_batch()
        ended = [slot.active for slot in self._slots if slot.active and slot.active.ended]
        for active in ended:
            self._clock += 1
            active.slot.active, active.slot.last_used = None, self._clock
            if active.writer is not None:
                active.writer.decoded_tokens += active.decoded_tokens
        return [active for active in ended if active.writer is None]

    def _admit(self) -> None:
        held: deque[Waiting] = deque()
        while self._waiting and (free := sum(slot.active is None for slot in self._slots)):
            entry = self._waiting.popleft()
            if entry.job.shadow is not None and free < GUIDED_SLOTS:
                # Those behind it wait as well, or a guided reply would wait for ever beside a stream of others.
                held.append(entry)
                break
            if self._is_coming(entry.job):
                held.append(entry)
            else:
                self._place(entry)
        self._waiting = held + self._waiting

    def _begin_shadows(self) -> None:
        for slot in self._slots:
            active = slot.active
            if active and active.writer and not active.begun and not active.writer.job.pending:
                self._begin(active)

    def _is_coming(self, job: Job) -> bool:
        """Say whether a longer beginning of the job than any in the cache is just being decoded for another."""
        limit = _reusable(job)
        here = max(_common(slot.ids, job.pending, limit) for slot in self._slots)
        coming = [slot.ids + slot.active.job.pending for slot in self._slots if slot.active]
        return any(_common(ids, job.pending, limit) >= here + _WAIT_WORTH_TOKENS for ids in coming)

    def _place(self, entry: Waiting) -> None:
        writer = self._take_slot(entry)
        self._begin(writer)
        if entry.job.shadow is not None:
            run_id = _shadow_of(entry.run_id) if entry.run_id else None
            shadow = self._take_slot(Waiting(entry.key, entry.job.shadow, run_id))
            shadow.writer = writer

    def _take_slot(self, entry: Waiting) -> Active:
        self._clock += 1
        slot = self._choose(entry, _reusable(entry.job))
        slot.last_used, slot.run_id = self._clock, entry.run_id
        slot.active = Active(entry.key, entry.job, slot)
        return slot.active

    def _begin(self, active: Active) -> None:
        """Put what the cache holds of a job's prompt into its slot."""
        job, slot, limit = active.job, active.slot, _reusable(active.job)
        source = max(self._slots, key=lambda slot: _common(slot.ids, job.pending, limit))
        own, shared = (_common(found.ids, job.pending, limit) for found in (slot, source))
        if shared > own:
            self._engine.share(source.sequence, slot.sequence, shared)
            slot.ids = source.ids[:shared]
        if max(own, shared) < job.prefix_tokens <= limit and self._restore(slot, job.pending[: job.prefix_tokens]):
            own = job.prefix_tokens
        self._engine.forget(slot.sequence, max(own, shared))
        reused = min(max(own, shared), self._engine.kept(slot.sequence))
        slot.ids = slot.ids[:reused]
        job.pending, job.wanted = job.pending[reused:], job.wanted[reused:]
        active.reused_tokens, active.begun = reused, True

    def _restore(self, slot: Slot, ids: list[int]) -> bool:
        """Put a beginning that is on disk into a slot; False, with the slot empty or as it was, if there is none."""
        state = self._prefixes.read(ids) if self._prefixes and len(ids) >= LEAST_TOKENS else None
        if state is None:
            return False
        restored = self._engine.restore(slot.sequence, state)
        slot.ids = list(ids) if restored else []
        return restored

    def _store(self, slot: Slot, prefix_tokens: int, before: int) -> None:
        """Keep a beginning that has just become complete."""
        if self._prefixes and prefix_tokens >= LEAST_TOKENS and before < prefix_tokens <= len(slot.ids):
            self._prefixes.write(slot.ids[:prefix_tokens], self._engine.state(slot.sequence, prefix_tokens))

    def _choose(self, entry: Waiting, limit: int) -> Slot:
        """Return the free slot to use: the run's own, else one that no run will come back to, the longest unused."""
        free = [slot for slot in self._slots if slot.active is None]
        own = [slot for slot in free if entry.run_id is not None and slot.run_id == entry.run_id]
        if own:
            return own[0]
        released = [slot for slot in free if slot.run_id is None]
        # Without a run nothing else tells whose turn follows whose: then the slot that holds most of the prompt.
        known = 0 if entry.run_id is not None else 1
        return max(
            released or free,
            key=lambda slot: (known * _common(slot.ids, entry.job.pending, limit), -slot.last_used),
        )

    def _decode_one_batch(self) -> None:
        order = sorted(
            (slot.active for slot in self._slots if slot.active and _has_work(slot.active)),
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
            share.active.fail(error)
            # What the cache holds after a failed decode is unknown.
            self._engine.forget(share.active.slot.sequence, 0)
            share.active.slot.ids = []

    def _hand_out(self, shares: Sequence[Share], rows: Rows) -> None:
        first = 0
        for share in shares:
            job, slot = share.active.job, share.active.slot
            before = len(slot.ids)
            slot.ids += job.pending[: share.tokens]
            self._store(slot, job.prefix_tokens, before)
            job.pending, job.wanted = job.pending[share.tokens :], job.wanted[share.tokens :]
            share.active.decoded_tokens += share.tokens
            if share.rows:
                try:
                    job.take(rows.part(first, first + share.rows))
                except Exception as error:
                    # A grammar that gives up in the middle of a reply is that request's misfortune, not the others'.
                    share.active.fail(error)
            first += share.rows


def _has_work(active: Active) -> bool:
    """Say whether a job has ids to decode now: of a pair, one may have to wait for the other."""
    return active.begun and bool(active.job.pending) and not active.ended


def _shadow_of(run_id: str) -> str:
    return f"{run_id}/against"


def _reusable(job: Job) -> int:
    """Return how many of the pending ids may come from the cache: all before the first one whose logits are wanted."""
    return job.wanted.index(True) if True in job.wanted else len(job.pending)


def _common(held: Sequence[int], asked: Sequence[int], limit: int) -> int:
    count = min(len(held), len(asked), limit)
    if count == 0 or held[0] != asked[0]:
        return 0
    differ = np.asarray(held[:count]) != np.asarray(asked[:count])
    return int(differ.argmax()) if differ.any() else count
