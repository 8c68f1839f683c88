"""What a view may want of the application: another screen over it, or another view in its place."""

from dataclasses import dataclass

from textual.message import Message

from koboshi_tools import ToolCall


@dataclass
class OpenRun(Message):
    """Somebody wants to see a run whole; `beside` is another one to hold against it."""

    run_id: str
    beside: str | None = None


@dataclass
class ExplainCall(Message):
    """Somebody wants to know how the rules of now decide this call."""

    call: ToolCall
