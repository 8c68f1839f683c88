"""What was said in a conversation with tools, in words: no ids, no markup, no times.

A trajectory holds how our model came to say something; this is what remains of it in any other program's format, and
all that there is of a run that was read from one. A call has its result beside it. A response without calls is an
answer, and ends what its question began.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from koboshi_tools import Frozen, ToolCall, ToolResult


class Question(Frozen):
    """What a person said."""

    kind: Literal["question"] = "question"
    text: str


class MadeCall(Frozen):
    """A call with what came of it; None where nobody carried it out."""

    call: ToolCall
    result: ToolResult | None = None


class Response(Frozen):
    """What a model said before its calls, or its answer; `thought` is what it said to itself."""

    kind: Literal["response"] = "response"
    text: str = ""
    thought: str = ""
    calls: tuple[MadeCall, ...] = ()


Remark: TypeAlias = Annotated[Question | Response, Field(discriminator="kind")]
