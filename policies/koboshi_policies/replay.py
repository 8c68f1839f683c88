"""Hold a policy against calls that were decided before, and say exactly where it would decide otherwise.

What counts as the earlier decision is the policy's own: a call that a person approved or refused was an `ask`. Calls
are counted for limits as the policy that is tried permits them; one that it asks about counts unless a person refused
it. Pure: the calls come from the log, in its order.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from koboshi_tools import Frozen, ToolCall

from .circumstances import Circumstances
from .decision import Answer, Decision, Verdict
from .policy import Policy, check

_SPANS_S = {"minute": 60.0, "hour": 3600.0}


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call as it was decided; `at` is in seconds, on any clock that all calls share."""

    run_id: str
    step_index: int
    purpose: str
    at: float
    call: ToolCall
    decision: Decision


class Difference(Frozen):
    """A call that is decided otherwise: another verdict, or other arguments."""

    run_id: str
    step_index: int
    call: ToolCall
    before: Decision
    after: Decision


def policy_verdict(decision: Decision) -> Verdict:
    """Return what the policy said, before a person did."""
    return decision.verdict if decision.asked is None else Verdict.ASK


def replay(calls: Iterable[LoggedCall], policy: Policy) -> Iterator[Difference]:
    """Yield the calls, in their order, that `policy` decides otherwise than the log says."""
    counts = _Counts()
    for logged in calls:
        after = check(logged.call, policy, counts.around(logged))
        if after.permits or (after.verdict is Verdict.ASK and logged.decision.asked is not Answer.REFUSED):
            counts.add(logged)
        before = logged.decision
        if (policy_verdict(before), before.arguments) != (after.verdict, after.arguments):
            yield Difference(
                run_id=logged.run_id, step_index=logged.step_index, call=logged.call, before=before, after=after
            )


@dataclass(slots=True)
class _Counts:
    """The calls permitted so far: by run, and by purpose those that each span still holds."""

    in_run: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    recent: defaultdict[tuple[str, str], deque[tuple[float, str]]] = field(default_factory=lambda: defaultdict(deque))
    totals: defaultdict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def around(self, logged: LoggedCall) -> Circumstances:
        for span, seconds in _SPANS_S.items():
            key = (span, logged.purpose)
            while self.recent[key] and self.recent[key][0][0] <= logged.at - seconds:
                self.totals[key][self.recent[key].popleft()[1]] -= 1
        minute, hour = (self.totals[span, logged.purpose] for span in _SPANS_S)
        return Circumstances(logged.purpose, self.in_run[logged.run_id], minute, hour)

    def add(self, logged: LoggedCall) -> None:
        self.in_run[logged.run_id][logged.call.name] += 1
        for span in _SPANS_S:
            self.recent[span, logged.purpose].append((logged.at, logged.call.name))
            self.totals[span, logged.purpose][logged.call.name] += 1
