"""A run while it is alive: what it was given, and where it stands.

`RunPlan` is everything decided before the first turn and never changes. `LiveRun` is the memory of a run that goes on:
the ids that its prompt holds, the turn that is being dealt with, the counts that budgets limit. It is not stored:
LangGraph's state holds only counters, the store holds the steps, and `revive` makes a LiveRun again out of both.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from koboshi_policies import Answer, Circumstances, Policy
from koboshi_tools import Tool, ToolCall, ToolSpec

from . import prompt
from .call_counts import CallCounts
from .checkers import CheckSettings, ProjectCheck
from .model import Constraint, FinishReason, Model, Piece, Reply
from .parse import InvalidReply, ParsedReply, parse_reply
from .project import Budgets
from .records import CallIntent, CallRecord, Outcome, RunEnd, RunHeader, Segment, SegmentKind, Trajectory, TurnRecord
from .store import RunRecorder, Store
from .store.recorder import Watch
from .tasks import Task


class CommitDue(Enum):
    """When the run's buffer has to be on disk: not yet, while the run goes on, or before anything else happens."""

    NO = "no"
    SOON = "soon"
    NOW = "now"


class Asker(Protocol):
    """Whoever can be asked whether a call may be made."""

    async def ask(self, run_id: str, intent: CallIntent) -> Answer:
        """Return what became of the question."""
        ...


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run was given. `foreign` are the names of `tool_specs`: offered, recorded, never executed.

    `shadows` are versions of tools that only read, called beside the run's own on the same arguments. `earlier` is a
    conversation that the task goes on with, its system text and tools included.
    """

    header: RunHeader
    task: Task | None
    system: str
    offered: tuple[ToolSpec, ...]
    tools: Mapping[str, Tool]
    foreign: frozenset[str]
    policy: Policy
    budgets: Budgets
    workspace: Path
    tool_settings: Mapping[str, Mapping[str, Any]]
    checks: tuple[ProjectCheck, ...] = ()
    check_settings: CheckSettings = field(default_factory=CheckSettings)
    asker: Asker | None = None
    counts: CallCounts | None = None
    shadows: Mapping[str, Tool] = field(default_factory=dict)
    watch: Watch | None = None
    earlier: Segment | None = None
    constrained: bool = True
    max_calls_per_turn: int = 4

    @property
    def constraint(self) -> Constraint | None:
        """The constraint on every reply of this run."""
        if not self.offered or not self.constrained:
            return None
        return Constraint(
            tool_format=self.header.profile.tool_format, tools=self.offered, max_calls=self.max_calls_per_turn
        )

    def turn_seed(self, step: int) -> int:
        """Return the seed of one turn: the same run seed gives the same run, whatever else decodes beside it."""
        digest = hashlib.sha256(f"{self.header.seed}:{self.header.task_id}:{self.header.sample}:{step}".encode())
        return int.from_bytes(digest.digest()[:6])


@dataclass(frozen=True, slots=True)
class Against:
    """The ids to put in the place of those from `start` to `stop` of a prompt, to ask for a failure instead."""

    start: int
    stop: int
    ids: tuple[int, ...]


@dataclass(slots=True)
class LiveRun:
    """A run that goes on.

    `context` are the ids decoded so far and `texts` what they say, `pending` the segments to be decoded next. `against`
    is the user segment as it is under the failure condition, if replies are guided away from that. `ahead` is a turn
    that is being written before a node asked for it.
    """

    run_id: str
    plan: RunPlan
    model: Model
    store: Store
    recorder: RunRecorder
    context: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pending: list[Segment] = field(default_factory=list)
    against: Against | None = None
    turn: TurnRecord | None = None
    parsed: ParsedReply | None = None
    checked: list[CallIntent] = field(default_factory=list)
    intents: list[CallIntent] = field(default_factory=list)
    calls: list[CallRecord] = field(default_factory=list)
    end: RunEnd | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    tokens: int = 0
    invalid_calls: int = 0
    resumed: bool = False
    commit_due: CommitDue = CommitDue.NO
    started: float = field(default_factory=time.monotonic)
    thread_state: bytes | None = None
    ahead: "asyncio.Future[Reply] | None" = None

    async def segment(self, kind: SegmentKind, pieces: Sequence[Piece]) -> Segment:
        """Tokenise pieces into a segment of the prompt."""
        ids = await self.model.tokenize(tuple(pieces))
        return Segment(kind=kind, ids=ids, text="".join(piece.text for piece in pieces))

    async def open(self) -> None:
        """Make the segments of the first prompt."""
        header, plan = self.plan.header, self.plan
        opening = plan.earlier or await self._beginning()
        asked = prompt.user_turn(header.profile, plan.system, plan.offered, header.prompt, header.condition)
        self.pending = [opening, await self.segment(SegmentKind.USER, asked)]
        await self.oppose(self.pending)

    async def oppose(self, segments: Sequence[Segment]) -> None:
        """Make what guided replies are drawn away from; `segments` are those of the first prompt."""
        header, plan = self.plan.header, self.plan
        if not header.guidance:
            return
        at = next(place for place, one in enumerate(segments) if one.kind is SegmentKind.USER)
        start = sum(len(one.ids) for one in segments[:at])
        asked = prompt.user_turn(header.profile, plan.system, plan.offered, header.prompt, prompt.FAILURE)
        ids = await self.model.tokenize(tuple(asked))
        self.against = Against(start=start, stop=start + len(segments[at].ids), ids=ids)

    async def _beginning(self) -> Segment:
        header, plan = self.plan.header, self.plan
        before = getattr(self.model, "begin_id", None)
        opening = await self.segment(SegmentKind.PREFIX, prompt.prefix(header.profile, plan.system, plan.offered))
        return opening if before is None else opening.model_copy(update={"ids": (before, *opening.ids)})

    def prompt_ids(self) -> tuple[int, ...]:
        """Return the whole prompt of the next turn."""
        return (*self.context, *(token for segment in self.pending for token in segment.ids))

    def against_ids(self) -> tuple[int, ...]:
        """Return the prompt of the next turn under the failure condition; empty for replies that are not guided."""
        if self.against is None:
            return ()
        ids = self.prompt_ids()
        return (*ids[: self.against.start], *self.against.ids, *ids[self.against.stop :])

    async def keep(self, turn: TurnRecord, parsed: ParsedReply) -> None:
        """Take over a turn: its segments, and its reply if that stays in the prompt, are context from now on."""
        self.turn, self.parsed, self.intents, self.checked = turn, parsed, [], []
        self.tokens += len(turn.reply.ids)
        self.invalid_calls += parsed.calls_begun if isinstance(parsed, InvalidReply) else 0
        for segment in turn.segments:
            self.context += segment.ids
            self.texts.append(segment.text)
        self.pending = []
        if turn.in_context:
            self.context += await visible_ids(self.model, turn.reply)
            self.texts.append(turn.reply.text)
            if turn.reply.finish is not FinishReason.STOP:
                end = prompt.unfinished_turn(self.plan.header.profile)
                self.pending = [await self.segment(SegmentKind.REPAIR, end)]

    def take_ahead(self) -> "asyncio.Future[Reply] | None":
        """Return the turn that was begun ahead, once."""
        ahead, self.ahead = self.ahead, None
        return ahead

    def leave_ahead(self) -> None:
        """Stop a turn that was begun ahead and that no node asked for."""
        if (ahead := self.take_ahead()) is not None:
            ahead.cancel()

    def seconds(self) -> float:
        """Return for how long this process has had the run."""
        return time.monotonic() - self.started

    def last_calls(self) -> list[CallRecord]:
        """Return the calls of the last turn that have a result, none if it was invalid."""
        return [] if self.turn is None else [call for call in self.calls if call.intent.step_index == self.turn.index]

    def circumstances(self, turn: Mapping[str, int]) -> Circumstances:
        """Return what the next decision depends on; `turn` counts the calls of this turn that were permitted."""
        purpose = self.plan.header.purpose
        in_run = Counter(record.intent.call.name for record in self.calls if record.intent.decision.permits)
        if self.plan.counts is not None and self.plan.policy.rated:
            return self.plan.counts.around(purpose, in_run, turn)
        return Circumstances(purpose, in_run + Counter(turn))

    def calls_made(self) -> tuple[ToolCall, ...]:
        """Return every call of the run so far, in order."""
        return tuple(record.intent.call for record in self.calls)


async def visible_ids(model: Model, reply: Reply) -> tuple[int, ...]:
    """Return a reply's ids without what the model thought aloud, where its vocabulary marks thinking."""
    if "</think>" not in reply.text:
        return reply.ids
    mark = await model.tokenize((Piece(text="</think>", markup=True),))
    if len(mark) != 1 or mark[0] not in reply.ids:
        return reply.ids
    last = len(reply.ids) - 1 - reply.ids[::-1].index(mark[0])
    return reply.ids[last + 1 :]


async def revive(run_id: str, plan: RunPlan, model: Model, store: Store, trajectory: Trajectory) -> LiveRun:
    """Return a run as it stood at its last commit; `calls` are all that have a result, those of the last turn too."""
    live = LiveRun(run_id, plan, model, store, store.recorder(run_id, plan.watch), resumed=True)
    live.thread_state = store.thread_state(run_id)
    if not trajectory.turns:
        await live.open()
        return live
    await live.oppose(trajectory.turns[0].segments)
    for turn in trajectory.turns:
        parsed = parse_reply(plan.header.profile, turn.reply.text, turn.reply.finish, plan.offered)
        await live.keep(turn, parsed)
    live.calls = [call for call in trajectory.calls if call.result is not None]
    last = trajectory.turns[-1].index
    live.intents = [call.intent for call in trajectory.calls if call.intent.step_index == last]
    return live
