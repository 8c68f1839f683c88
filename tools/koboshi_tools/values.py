"""What moves between a model, a policy and a tool.

Values have no ids and no clocks: two equal calls are equal, and identity and time are added by the trace store. Nothing
here computes.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """The base of every value that crosses an edge: immutable, and it refuses a field that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EffectClass(StrEnum):
    """What a call may change: nothing, the workspace, something reached over a network, or anything a program can."""

    READ = "read"
    WRITE = "write"
    NET = "net"
    EXEC = "exec"


class Transport(StrEnum):
    """The first axis of an outcome: whether the call was carried out at all."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    DENIED = "denied"
    INVALID = "invalid"
    NOT_EXECUTED = "not_executed"


class ToolVerdict(StrEnum):
    """The second axis: what the tool itself said of a call that was carried out."""

    OK = "ok"
    ERROR = "error"


class ToolSpec(Frozen):
    """A function as the model sees it; `parameters` is a JSON schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any]


class ToolCall(Frozen):
    """What the model asked for."""

    name: str
    arguments: dict[str, Any]


class ToolResult(Frozen):
    """What came back. `verdict` is None where the tool was never reached."""

    transport: Transport
    output: str
    verdict: ToolVerdict | None = None
    seconds: float = 0.0
    truncated: bool = False
