"""The words that every run is recorded in: its purpose, its split, its outcome, and the steps it is made of.

These are values; ids of rows, times and hashes of text are added by the store. A trajectory is the stored record of one
run: its header, its steps in order, and its outcomes.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from koboshi_policies import Decision
from koboshi_tools import EffectClass, Frozen, ToolCall, ToolResult, ToolSpec

from .model import PromptProfile, Reply
from .talk import Remark


class Purpose(StrEnum):
    """Why a run was made. Training reads `work` and `rollout` only."""

    WORK = "work"
    ROLLOUT = "rollout"
    EVAL = "eval"
    GATE = "gate"
    BENCH = "bench"
    CANARY = "canary"


class Split(StrEnum):
    """What a task may be used for: training, tuning, the gate, or reports only."""

    TRAIN = "train"
    DEV = "dev"
    GATE = "gate"
    TEST = "test"


class OutcomeLabel(StrEnum):
    """The third axis: the verdict on the task."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class OutcomeSource(StrEnum):
    """Who gave the verdict, strongest first; a weak signal is stored and not trained on until switched on."""

    CHECKER = "checker"
    PROJECT_CHECK = "project_check"
    PERSON = "person"
    EVENT = "event"
    WEAK = "weak"


class Outcome(Frozen):
    """One label on a run; append-only, the strongest source decides and within a source the last one."""

    label: OutcomeLabel
    source: OutcomeSource
    who: str
    rationale: str = ""
    score: float | None = None


def counting_outcome(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the label that counts: of the strongest source, the last one given; None if there is none."""
    order = list(OutcomeSource)
    return min(reversed(outcomes), key=lambda outcome: order.index(outcome.source), default=None)


def verdict_of(outcomes: Sequence[Outcome]) -> OutcomeLabel:
    """Return the verdict of the label that counts; `unknown` if there is none."""
    best = counting_outcome(outcomes)
    return best.label if best else OutcomeLabel.UNKNOWN


class RunStatus(StrEnum):
    """The life of a run; `store.TRANSITIONS` says which may follow which."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class EndReason(StrEnum):
    """Why a run ended; the trainer's failure classes are read from it."""

    ANSWER = "answer"
    STEP_BUDGET = "step_budget"
    TOKEN_BUDGET = "token_budget"
    TIME_BUDGET = "time_budget"
    CALL_BUDGET = "call_budget"
    LOOP = "loop"
    DENIED = "denied"
    NOT_EXECUTED = "not_executed"
    NOT_REPLAYABLE = "not_replayable"
    IN_DOUBT = "in_doubt"
    MODEL_ERROR = "model_error"
    CONTEXT_FULL = "context_full"
    WORKSPACE_LOST = "workspace_lost"
    OUTSIDE = "outside"
    REDACTED = "redacted"


class SegmentKind(StrEnum):
    """Where a stretch of ids comes from. Only `reply` was written by the model, and only `reply` is ever learnt."""

    PREFIX = "prefix"
    USER = "user"
    REPLY = "reply"
    TOOL = "tool"
    REPAIR = "repair"


class Segment(Frozen):
    """A stretch of the prompt as it was decoded."""

    kind: SegmentKind
    ids: tuple[int, ...]
    text: str


class TurnKind(StrEnum):
    """What a reply turned out to be."""

    CALL = "call"
    ANSWER = "answer"
    INVALID = "invalid"


FOREIGN = PromptProfile(template="foreign", tool_format="foreign")
"""The profile of a run whose text is another program's: no template or tool format of ours can be found in it."""


class RunHeader(Frozen):
    """What is known of a run before its first turn.

    `tools` are the names of what was offered; `system` and `tool_specs` are what the model was told of it. `versions`
    are the digests of those tools that have more than one version. `guidance` is how far its tokens were drawn away
    from those of the failure condition. A run of a conversation goes on with `parent_run_id`; one with `forked_at` took
    that many turns over from it. `imported` names where a run was read from that no model here made, `history` is what
    had been said before its prompt.
    """

    prompt: str
    purpose: Purpose
    split: Split
    model_hash: str
    profile: PromptProfile
    condition: str | None
    policy_hash: str
    project: str
    seed: int
    temperature: float
    top_p: float = 1.0
    guidance: float = 0.0
    task_id: str | None = None
    task: dict[str, Any] | None = None
    tools: tuple[str, ...] = ()
    sample: int = 0
    parent_run_id: str | None = None
    forked_at: int | None = None
    demonstration: bool = False
    system: str = ""
    tool_specs: tuple[ToolSpec, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    imported: str | None = None
    history: tuple[Remark, ...] = ()


class TurnRecord(Frozen):
    """One model turn: the segments that are new to the prompt since the last turn, and the reply.

    `in_context` says whether the reply's ids stay in the prompt of later turns; an invalid one does not.
    """

    index: int
    segments: tuple[Segment, ...]
    reply: Reply
    kind: TurnKind
    error: str | None = None
    in_context: bool = True


class CallIntent(Frozen):
    """A call about to be decided and made. `idempotency_key` names it for ever: an effect happens once per key.

    `shadow` is what the policy would have said if its files in shadow mode were obeyed; None where there are none.
    """

    step_index: int
    call_index: int
    call: ToolCall
    decision: Decision
    tool_version: str | None
    tool_digest: str | None
    effect: str | None
    idempotent: bool
    idempotency_key: str
    shadow: Decision | None = None

    @property
    def made(self) -> ToolCall:
        """The call as it is made: what the model asked for, or what a rule made of it."""
        changed = self.decision.arguments
        return self.call if changed is None else ToolCall(name=self.call.name, arguments=changed)

    @property
    def has_effect(self) -> bool:
        """Whether the call may be made and does more than read."""
        return self.decision.permits and self.effect not in (None, EffectClass.READ)


class CallRecord(Frozen):
    """An intent with what came of it; a stored intent without a result is in doubt."""

    intent: CallIntent
    result: ToolResult | None


class RunEnd(Frozen):
    """How a run closed."""

    status: RunStatus
    reason: EndReason
    answer: str | None
    error: str | None = None


class Trajectory(Frozen):
    """The stored record of one run, steps in order. `created_at` is ISO 8601, UTC.

    `redacted` says that it held a secret: that stretch is stored without ids, and is not what the model read or wrote.
    """

    run_id: str
    created_at: str
    header: RunHeader
    turns: tuple[TurnRecord, ...]
    calls: tuple[CallRecord, ...]
    outcomes: tuple[Outcome, ...]
    end: RunEnd | None
    redacted: bool = False

    @property
    def outcome(self) -> OutcomeLabel:
        """The verdict that counts: of the strongest source, the last one given; `unknown` if nobody judged."""
        return verdict_of(self.outcomes)
