"""What a set of measured runs says: the success rate with its interval, invalid calls, steps and tokens.

A `TaskResult` is one run of one task, reduced to what a report or a gate needs. Several seeds of a task are not several
tasks: the interval of a rate counts tasks. `unknown` is not a success; a run that could not be replayed is counted
apart and is in no rate. Only the standard library is used, so that `koboshi eval` needs no trainer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from koboshi_tools import Frozen, ToolSpec, ToolVerdict, Transport

from .model import PromptProfile
from .parse import InvalidReply, parse_reply
from .records import CallRecord, EndReason, OutcomeLabel, Trajectory, TurnKind, TurnRecord

# Offering a tool that no call can name makes the parser count the calls that a reply begins, valid or not.
_UNNAMEABLE = ToolSpec(name="", parameters={})
_NOT_FAILED = frozenset({Transport.OK, Transport.NOT_EXECUTED})


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The calls of one tool in one run; a failure is a call that was not carried out, or whose tool said error."""

    name: str
    calls: int
    failures: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One run of one task with one seed, measured.

    `calls_begun` counts the calls made and those that came out invalid or cut (`invalid_calls`).
    `replayable` is False where a call could not be answered from recorded results.
    """

    task_id: str
    seed: int
    outcome: OutcomeLabel
    tools: tuple[ToolUse, ...] = ()
    calls_begun: int = 0
    invalid_calls: int = 0
    steps: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    level: str | None = None
    replayable: bool = True


class Aggregate(Frozen):
    """A set of results in the words of `koboshi eval --json`; rates are None where nothing could be counted."""

    tasks: int
    runs: int
    success_rate: float | None
    ci95: Interval | None
    invalid_call_rate: float | None
    mean_steps: float | None
    output_tokens: int
    unknown: int
    not_replayable: int


def wilson_interval(rate: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval (1927) of a share `rate` seen in `n` independent trials; (0, 1) if `n` is 0."""
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    scale = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / scale
    # At a rate of 0 or 1 the formula gives the end itself, up to rounding.
    return Interval(max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def aggregate(results: Sequence[TaskResult]) -> Aggregate:
    """Return the rates over `results`; the interval counts tasks, however many seeds each was run with."""
    counted = [result for result in results if result.replayable]
    tasks = len({result.task_id for result in counted})
    rate = _ratio(sum(result.outcome is OutcomeLabel.SUCCESS for result in counted), len(counted))
    return Aggregate(
        tasks=len({result.task_id for result in results}),
        runs=len(results),
        success_rate=rate,
        ci95=None if rate is None else wilson_interval(rate, tasks),
        invalid_call_rate=_ratio(sum(r.invalid_calls for r in counted), sum(r.calls_begun for r in counted)),
        mean_steps=_ratio(sum(result.steps for result in counted), len(counted)),
        output_tokens=sum(result.output_tokens for result in results),
        unknown=sum(result.outcome is OutcomeLabel.UNKNOWN for result in counted),
        not_replayable=len(results) - len(counted),
    )


def measure(trajectory: Trajectory) -> TaskResult:
    """Reduce a stored run to its result; a run without a task goes by its own id."""
    header = trajectory.header
    meta = (header.task or {}).get("meta") or {}
    level = meta.get("level")
    invalid = sum(_calls_begun(turn, header.profile) for turn in trajectory.turns if turn.kind is TurnKind.INVALID)
    refused = sum(call.result is not None and call.result.transport is Transport.INVALID for call in trajectory.calls)
    results = [call.result for call in trajectory.calls if call.result is not None]
    return TaskResult(
        task_id=header.task_id or trajectory.run_id,
        seed=header.seed,
        outcome=trajectory.outcome,
        tools=_tool_uses(trajectory),
        calls_begun=len(trajectory.calls) + invalid,
        invalid_calls=invalid + refused,
        steps=len(trajectory.turns),
        output_tokens=sum(len(turn.reply.ids) for turn in trajectory.turns),
        seconds=sum(turn.reply.seconds for turn in trajectory.turns) + sum(result.seconds for result in results),
        level=None if level is None else str(level),
        replayable=trajectory.end is None or trajectory.end.reason is not EndReason.NOT_REPLAYABLE,
    )


def _calls_begun(turn: TurnRecord, profile: PromptProfile) -> int:
    parsed = parse_reply(profile, turn.reply.text, turn.reply.finish, (_UNNAMEABLE,))
    return parsed.calls_begun if isinstance(parsed, InvalidReply) else 0


def _tool_uses(trajectory: Trajectory) -> tuple[ToolUse, ...]:
    names = sorted({call.intent.call.name for call in trajectory.calls})
    return tuple(_tool_use(name, trajectory.calls) for name in names)


def _tool_use(name: str, calls: Sequence[CallRecord]) -> ToolUse:
    mine = [call for call in calls if call.intent.call.name == name]
    return ToolUse(name, calls=len(mine), failures=sum(_failed(call) for call in mine))


def _failed(call: CallRecord) -> bool:
    if call.result is None:
        return True
    return call.result.transport not in _NOT_FAILED or call.result.verdict is ToolVerdict.ERROR


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
