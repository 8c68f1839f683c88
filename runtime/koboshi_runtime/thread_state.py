"""LangGraph's saver over the trace store: thread state is written in the same transaction as the step it belongs to.

Only the latest state of a run is kept, and it holds counters, not text. The graph's nodes record into the run's buffer;
when LangGraph hands over its state, buffer and state go to the store together if a node said that a commit is due:
`now`, when what comes next has an effect outside, or `soon`, when the run may go on meanwhile. A run that is cut off
can be repeated from its last committed state, since nothing after it had an effect.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)

from .live import CommitDue, LiveRun

_INTERRUPT = "__interrupt__"
_RESUME = "__resume__"
_REPLACED = (_INTERRUPT, _RESUME)
_NO_TASK = "00000000-0000-0000-0000-000000000000"
_KIND = "msgpack"


class ThreadStateSaver(BaseCheckpointSaver[str]):
    """Keeps the thread state of the runs of this process in their `LiveRun`, and in the store when a commit is due."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, LiveRun] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._commits: dict[str, asyncio.Task[None]] = {}

    def attach(self, live: LiveRun) -> None:
        """Take on a run before it is invoked."""
        self._runs[live.run_id] = live

    async def detach(self, run_id: str) -> None:
        """Forget a run, when its last commit is on disk. Raises StoreError if it failed."""
        self._runs.pop(run_id, None)
        self._kept.pop(run_id, None)
        commit = self._commits.pop(run_id, None)
        if commit is not None:
            await commit

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the run's state, or None for a run that has not begun."""
        run_id = config["configurable"]["thread_id"]
        stored = self._runs[run_id].thread_state
        if run_id not in self._kept and stored is None:
            return None
        kept = self._kept.get(run_id) or self.serde.loads_typed((_KIND, stored or b""))
        self._kept[run_id] = kept
        checkpoint: Checkpoint = kept["checkpoint"]
        writes = [(task, channel, value) for task, channel, value in kept["writes"]]
        return CheckpointTuple(_config(run_id, checkpoint["id"]), checkpoint, kept["metadata"], None, writes)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep the state after a node; commit it with the run's buffer if that is due."""
        run_id = config["configurable"]["thread_id"]
        live = self._runs[run_id]
        self._kept[run_id] = {"checkpoint": checkpoint, "metadata": dict(metadata), "writes": []}
        due, live.commit_due = live.commit_due, CommitDue.NO
        if due is not CommitDue.NO:
            await self._commit(live, wait=due is CommitDue.NOW)
        return _config(run_id, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a node wrote before the others of its step were done; an interrupt is stored at once."""
        run_id = config["configurable"]["thread_id"]
        fresh = [(task_id, channel, value) for channel, value in writes]
        # A node that asks twice hands over its answers anew each time: the last word on a channel counts. The answer
        # that came in for no task in particular is then among them, and must not answer the next question too.
        replaced = {(task, channel) for task, channel, _ in fresh if channel in _REPLACED}
        replaced |= {(_NO_TASK, channel) for _, channel in replaced if channel == _RESUME}
        earlier = [write for write in self._kept[run_id]["writes"] if (write[0], write[1]) not in replaced]
        self._kept[run_id]["writes"] = earlier + fresh
        if any(channel == _INTERRUPT for channel, _ in writes):
            await self._commit(self._runs[run_id], wait=True)

    async def _commit(self, live: LiveRun, *, wait: bool) -> None:
        _, live.thread_state = self.serde.dumps_typed(self._kept[live.run_id])
        earlier = self._commits.pop(live.run_id, None)
        # One at a time: if a commit failed, no state may be stored that stands on it.
        if earlier is not None:
            await earlier
        commit = asyncio.create_task(live.recorder.commit(live.thread_state))
        if wait:
            await commit
        else:
            self._commits[live.run_id] = commit

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield the one state that is kept."""
        found = await self.aget_tuple(config) if config else None
        if found:
            yield found

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Refuse: the graph runs in an event loop."""
        raise NotImplementedError("koboshi's graph is run with ainvoke")

    def list(self, config: RunnableConfig | None, **_: Any) -> Iterator[CheckpointTuple]:
        """Refuse: the graph runs in an event loop."""
        raise NotImplementedError("koboshi's graph is run with ainvoke")


def _config(run_id: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}}
