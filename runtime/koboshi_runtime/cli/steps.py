"""What `koboshi run` shows on a terminal while a run goes on: a line for each turn, call and result, safe to print."""

from typing import TYPE_CHECKING, assert_never

from koboshi_policies import Verdict
from koboshi_tools import ToolResult, Transport

from ..records import CallIntent, TurnKind, TurnRecord
from ..text import plain
from .context import progress

if TYPE_CHECKING:
    from ..store.recorder import Event

_WIDTH = 110
_DOES = {TurnKind.CALL: "calls", TurnKind.ANSWER: "answers", TurnKind.INVALID: "invalid"}


def show(event: "Event") -> None:
    """Print the line of an event on stderr."""
    progress(step_line(event))


def step_line(event: "Event") -> str:
    """Return one line, cut to the width of a terminal."""
    match event:
        case TurnRecord():
            return _turn_line(event)
        case CallIntent():
            return _call_line(event)
        case ToolResult():
            return _result_line(event)
        case _:
            assert_never(event)


def _turn_line(turn: TurnRecord) -> str:
    line = f"step {turn.index}: {_DOES[turn.kind]}, {len(turn.reply.ids)} tokens in {turn.reply.seconds:.1f} s"
    return plain(f"{line}: {turn.error}" if turn.error else line, width=_WIDTH)


def _call_line(intent: CallIntent) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in intent.call.arguments.items())
    decision = intent.decision
    refused = "" if decision.verdict is Verdict.ALLOW else f" {decision.verdict}: {decision.reason}"
    return plain(f"  {intent.call.name}({arguments}){refused}", width=_WIDTH)


def _result_line(result: ToolResult) -> str:
    failed = "" if result.transport is Transport.OK else f"{result.transport}: "
    return plain(f"  → {failed}{result.output}", width=_WIDTH)
