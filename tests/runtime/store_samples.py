"""Values for the tests of the store: one of each kind, and runs of a realistic size."""

import asyncio
import random

from koboshi_policies.decision import Decision, Verdict
from koboshi_runtime.model import FinishReason, PromptProfile, Reply
from koboshi_runtime.records import (
    CallIntent,
    EndReason,
    Outcome,
    OutcomeLabel,
    OutcomeSource,
    Purpose,
    RunEnd,
    RunHeader,
    RunStatus,
    Segment,
    SegmentKind,
    Split,
    TurnKind,
    TurnRecord,
)
from koboshi_runtime.store import RunRecorder, Store
from koboshi_tools import ToolCall, ToolResult, ToolVerdict, Transport

PROFILE = PromptProfile(template="chatml", tool_format="hermes")
MODEL = "sha256:" + "ab" * 32
OK = ToolResult(transport=Transport.OK, output="42", verdict=ToolVerdict.OK, seconds=0.25)
DONE = RunEnd(status=RunStatus.FINISHED, reason=EndReason.ANSWER, answer="42")
ALLOWED = Decision(verdict=Verdict.ALLOW, reason="reads only", rule="read", file="base.toml", line=3, layer="preset")


def header(
    prompt: str = "How many apples are left?",
    *,
    purpose: Purpose = Purpose.WORK,
    split: Split = Split.TRAIN,
    task_id: str | None = None,
    model_hash: str = MODEL,
) -> RunHeader:
    """A header that differs from another by what is given."""
    return RunHeader(
        prompt=prompt,
        purpose=purpose,
        split=split,
        model_hash=model_hash,
        profile=PROFILE,
        condition=None,
        policy_hash="sha256:01",
        project="shop",
        seed=7,
        temperature=0.5,
        task_id=task_id,
    )


def reply(text: str = "I think so.", ids: tuple[int, ...] = (11, 12, 2), logprob: float = -0.5) -> Reply:
    """A reply that was sampled throughout, every token with the same log-probability."""
    values = (logprob,) * len(ids)
    return Reply(
        ids=ids,
        sampled=(True,) * len(ids),
        raw_logprobs=values,
        behaviour_logprobs=values,
        text=text,
        finish=FinishReason.STOP,
    )


def turn(index: int = 0, *, written: Reply | None = None, kind: TurnKind = TurnKind.CALL) -> TurnRecord:
    """A turn after a prefix and a user segment."""
    segments = (
        Segment(kind=SegmentKind.PREFIX, ids=(1, 2, 3), text="You are a shop assistant."),
        Segment(kind=SegmentKind.USER, ids=(4, 5), text="How many?"),
    )
    return TurnRecord(index=index, segments=segments, reply=written or reply(), kind=kind)


def intent(key: str, step_index: int = 0, *, tool: str = "calculator", decision: Decision = ALLOWED) -> CallIntent:
    """A call of `tool` that was allowed."""
    return CallIntent(
        step_index=step_index,
        call_index=0,
        call=ToolCall(name=tool, arguments={"expression": "6*7"}),
        decision=decision,
        tool_version="1",
        tool_digest="sha256:02",
        effect="read",
        idempotent=True,
        idempotency_key=key,
    )


def label(label: OutcomeLabel, source: OutcomeSource = OutcomeSource.CHECKER) -> Outcome:
    """A label from `source`."""
    return Outcome(label=label, source=source, who="test")


def record(
    store: Store,
    run_id: str,
    opened: RunHeader,
    *,
    logprob: float = -0.5,
    outcomes: tuple[Outcome, ...] = (),
    calls: tuple[tuple[str, ToolResult | None], ...] = (),
    end: RunEnd | None = DONE,
    text: str = "I think so.",
) -> None:
    """Record a run of one turn, with its calls in steps of their own; one without an `end` goes on."""
    recorder = RunRecorder(store, run_id)
    recorder.start(opened)
    recorder.turn(turn(written=reply(text, logprob=logprob)))
    for number, (tool, result) in enumerate(calls):
        asked = intent(f"{run_id}:{number}", number, tool=tool)
        recorder.intent(asked)
        if result:
            recorder.result(asked.idempotency_key, result)
    for outcome in outcomes:
        recorder.outcome(outcome)
    if end:
        recorder.end(end)
    asyncio.run(recorder.commit(b"state"))


WORDS = "order customer stock refund total price apples select from where the a of count sum id how many".split()


def realistic_turn(rng: random.Random, index: int) -> TurnRecord:
    """A turn with 120 new ids: 60 of a tool's answer, and a reply of 60 with forced and sampled tokens."""
    ids = tuple(rng.randrange(49152) for _ in range(60))
    sampled = tuple(rng.random() < 0.6 for _ in ids)
    logprobs = tuple(-rng.expovariate(2.0) if drawn else 0.0 for drawn in sampled)
    text = " ".join(rng.choice(WORDS) + str(rng.randrange(1000)) for _ in range(30))
    written = Reply(
        ids=ids,
        sampled=sampled,
        raw_logprobs=logprobs,
        behaviour_logprobs=logprobs,
        text=text,
        finish=FinishReason.STOP,
    )
    answer = " ".join(rng.choice(WORDS) + str(rng.randrange(1000)) for _ in range(30))
    segments: tuple[Segment, ...] = (
        Segment(kind=SegmentKind.TOOL, ids=tuple(rng.randrange(49152) for _ in range(60)), text=answer),
    )
    if index == 0:
        prefix = Segment(kind=SegmentKind.PREFIX, ids=tuple(range(1200)), text="tools " * 1200)
        segments = (prefix, *segments)
    return TurnRecord(index=index, segments=segments, reply=written, kind=TurnKind.CALL)
