"""Judging the calls of a run: exactly the accepted ones, in any order.

Each accepted call must be met by one call of its own, so this is a matching of two lists, not a loop over one: a call
that would do for two accepted ones must not be used up by the wrong one.
"""

from collections.abc import Sequence

from koboshi_tools import ToolCall, canonical_json

from .specs import AcceptedCall, ToolCallChecker
from .values import same_argument


def wrong_calls(checker: ToolCallChecker, calls: Sequence[ToolCall]) -> str | None:
    """Return why `calls` are not the accepted ones, or None if they are."""
    if len(calls) != len(checker.accept):
        return f"{len(calls)} calls were made where {len(checker.accept)} are right: {_names(calls)}"
    partner: dict[int, int] = {}
    for index, accepted in enumerate(checker.accept):
        if not _match(index, checker.accept, calls, partner, set()):
            return f"no call meets {accepted.name} {canonical_json(accepted.arguments)}; made: {_names(calls)}"
    return None


def meets(call: ToolCall, accepted: AcceptedCall) -> bool:
    """Return whether `call` has the accepted name, an accepted value for each argument, and no other argument."""
    if call.name != accepted.name or call.arguments.keys() - accepted.arguments.keys():
        return False
    return all(_accepts(call, name, values) for name, values in accepted.arguments.items())


def _accepts(call: ToolCall, name: str, values: Sequence[object]) -> bool:
    if name not in call.arguments:
        return any(value == "" for value in values)
    return any(same_argument(call.arguments[name], value) for value in values)


def _match(
    index: int,
    accept: Sequence[AcceptedCall],
    calls: Sequence[ToolCall],
    partner: dict[int, int],
    seen: set[int],
) -> bool:
    """Give accepted call `index` a call of its own, moving earlier ones where needed (augmenting path)."""
    for number, call in enumerate(calls):
        if number in seen or not meets(call, accept[index]):
            continue
        seen.add(number)
        if number not in partner or _match(partner[number], accept, calls, partner, seen):
            partner[number] = index
            return True
    return False


def _names(calls: Sequence[ToolCall]) -> str:
    return ", ".join(f"{call.name} {canonical_json(call.arguments)}"[:120] for call in calls[:4]) or "none"
