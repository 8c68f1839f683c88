"""What one run records between two commits, held in memory until it is committed as one unit."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from koboshi_tools import ToolResult

from ..records import CallIntent, Outcome, RunEnd, RunHeader, RunStatus, TurnRecord
from . import write
from .errors import StoreError

if TYPE_CHECKING:
    from .store import Store


Event: TypeAlias = TurnRecord | CallIntent | ToolResult
"""What is told of a run while it goes on: a turn, a call that was decided on, what a call gave."""

Watch: TypeAlias = Callable[[Event], None]


class RunRecorder:
    """Buffers what happens in one run; nothing is stored, and nothing is on disk, until `commit` returns.

    Used from one thread or event loop. Everything since the last commit is stored whole or not at all. `watch` is told
    each event as it is buffered, so before it is stored.
    """

    def __init__(self, store: "Store", run_id: str, watch: Watch | None = None) -> None:
        self.run_id = run_id
        self._store = store
        self._watch = watch
        self._buffer: list[write.Statement] = []

    def start(self, header: RunHeader) -> None:
        """Open the run."""
        self._buffer += write.start_run(self.run_id, header)

    def turn(self, turn: TurnRecord) -> None:
        """Add a model turn."""
        self._tell(turn)
        self._buffer += write.add_turn(self.run_id, turn)

    def intent(self, intent: CallIntent) -> None:
        """Add a call that is about to be made, and the decision on it; a known key adds the decision only."""
        self._tell(intent)
        self._buffer += write.add_intent(self.run_id, intent)

    def result(self, idempotency_key: str, result: ToolResult) -> None:
        """Give a call its one result."""
        self._tell(result)
        self._buffer += write.add_result(idempotency_key, result)

    def add(self, statements: Iterable[write.Statement]) -> None:
        """Add what another module of the store's makes of a value."""
        self._buffer += statements

    def outcome(self, outcome: Outcome) -> None:
        """Append a label."""
        self._buffer += write.add_outcome(self.run_id, outcome)

    def status(self, status: RunStatus) -> None:
        """Move the run to `status`, as `store.TRANSITIONS` allows."""
        self._buffer += write.change_status(self.run_id, status)

    def end(self, end: RunEnd) -> None:
        """Close the run; its thread state is dropped if nothing can follow."""
        self._buffer += write.end_run(self.run_id, end)

    def buffered(self) -> tuple[write.Statement, ...]:
        """Return what the next commit would store, for whoever stores the parts of many runs in one."""
        return tuple(self._buffer)

    def _tell(self, event: Event) -> None:
        if self._watch is not None:
            self._watch(event)

    async def commit(self, thread_state: bytes | None = None) -> None:
        """Store everything buffered and the thread state in one transaction; return when it is durable.

        None leaves the stored thread state as it is. A commit that fails raises StoreError and keeps the buffer, so
        that it can be tried again; one whose caller is cancelled still goes through.
        """
        batch, self._buffer = self._buffer, []
        state = [] if thread_state is None else write.keep_thread_state(self.run_id, thread_state)
        if not batch and not state:
            return
        try:
            await asyncio.shield(asyncio.wrap_future(self._store.submit((*batch, *state))))
        except StoreError:
            self._buffer = batch + self._buffer
            raise
