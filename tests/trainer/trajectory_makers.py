"""Small trajectories as the store would return them, for the tests of the dataset and its rows."""

from typing import Any

from koboshi_policies.decision import Decision, Verdict
from koboshi_runtime.model import FinishReason, PromptProfile, Reply
from koboshi_runtime.records import (
    CallIntent,
    CallRecord,
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
    Trajectory,
    TurnKind,
    TurnRecord,
)
from koboshi_tools import ToolCall, ToolResult, Transport

STOP = 2
PREFIX = (1, 10, 11)
TOOL = (40, 41)
PROFILE = PromptProfile(template="chatml", tool_format="tool_call", conditions="plain")


def user_segment(prompt: str, condition: str | None) -> tuple[int, ...]:
    """Render a user turn: the prompt's bytes, then the condition's as the last line."""
    line = f"\n{condition}" if condition else ""
    return (20, *(100 + byte for byte in f"{prompt}{line}".encode()), 21)


def reply(*ids: int, finish: FinishReason = FinishReason.STOP) -> Reply:
    """Return a reply of `ids`."""
    zeros = (0.0,) * len(ids)
    return Reply(
        ids=ids, sampled=(True,) * len(ids), raw_logprobs=zeros, behaviour_logprobs=zeros, text="", finish=finish
    )


def segment(kind: SegmentKind, *ids: int) -> Segment:
    """Return a segment of `ids`."""
    return Segment(kind=kind, ids=ids, text="")


def turn(
    index: int, written: Reply, *segments: Segment, kind: TurnKind = TurnKind.CALL, kept: bool = True
) -> TurnRecord:
    """Return a turn that wrote `written` after `segments`."""
    return TurnRecord(index=index, segments=segments, reply=written, kind=kind, in_context=kept)


ALLOWED = Decision(verdict=Verdict.ALLOW, reason="test")


def call_record(
    transport: Transport = Transport.OK,
    *,
    decision: Decision = ALLOWED,
    output: str = "6",
    step: int = 0,
    **intent: Any,
) -> CallRecord:
    """Return a call of the calculator, or one with the `intent` fields that are given."""
    values: dict[str, Any] = {
        "step_index": step,
        "call_index": 0,
        "call": ToolCall(name="calculator", arguments={"expression": "2*3"}),
        "decision": decision,
        "tool_version": "1",
        "tool_digest": None,
        "effect": "read",
        "idempotent": True,
        "idempotency_key": "k",
    }
    return CallRecord(intent=CallIntent(**values | intent), result=ToolResult(transport=transport, output=output))


def trajectory(
    run_id: str = "run-1",
    prompt: str = "two times three",
    *,
    label: OutcomeLabel = OutcomeLabel.SUCCESS,
    condition: str | None = "success",
    turns: tuple[TurnRecord, ...] | None = None,
    answer: tuple[int, ...] = (60, 61),
    reason: EndReason = EndReason.ANSWER,
    purpose: Purpose = Purpose.ROLLOUT,
    split: Split = Split.TRAIN,
    source: OutcomeSource = OutcomeSource.CHECKER,
    score: float | None = None,
    transport: Transport = Transport.OK,
    demonstration: bool = False,
    calls: tuple[CallRecord, ...] | None = None,
) -> Trajectory:
    """Return a run of one call and one answer, or of `turns`."""
    start = (segment(SegmentKind.PREFIX, *PREFIX), segment(SegmentKind.USER, *user_segment(prompt, condition)))
    default = (
        turn(0, reply(50, 51, 52, STOP), *start),
        turn(1, reply(*answer, STOP), segment(SegmentKind.TOOL, *TOOL), kind=TurnKind.ANSWER),
    )
    header = RunHeader(
        prompt=prompt,
        purpose=purpose,
        split=split,
        model_hash="sha256:model",
        profile=PROFILE,
        condition=condition,
        policy_hash="sha256:policy",
        project="shop",
        seed=0,
        temperature=0.8,
        tools=("calculator",),
        task={"meta": {"level": 2}},
        demonstration=demonstration,
    )
    return Trajectory(
        run_id=run_id,
        created_at="2026-01-01T00:00:00.000+00:00",
        header=header,
        turns=turns or default,
        calls=(call_record(transport),) if calls is None else calls,
        outcomes=(Outcome(label=label, source=source, who="test", score=score),),
        end=RunEnd(status=RunStatus.FINISHED, reason=reason, answer="6"),
    )
