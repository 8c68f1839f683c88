"""Call the function of a tool, and turn what it returns into text.

The same in a thread of this process and in a sandboxed one. A tool whose function returns a pydantic model, by its
annotation, has an output schema: what it returns is checked against that before anybody reads it.
"""

import asyncio
import inspect
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from .definition import Tool
from .errors import ToolError

MAX_ERROR_CHARACTERS = 500


def call_tool(tool: Tool, values: dict[str, Any]) -> str:
    """Return what the tool says to these checked values. Raises whatever it raises."""
    output = (
        asyncio.run(tool.function(**values)) if inspect.iscoroutinefunction(tool.function) else tool.function(**values)
    )
    return as_text(output if tool.output is None else _checked(tool, output))


def as_text(output: Any) -> str:
    """Return what a tool returned as text: a string as it is, None as "done", anything else as JSON."""
    if isinstance(output, str):
        return output
    if output is None:
        return "done"
    if isinstance(output, BaseModel):
        return output.model_dump_json()
    try:
        return to_json(output).decode()
    except PydanticSerializationError as error:
        raise TypeError(f"the tool returned {type(output).__name__}, which is neither text nor JSON") from error


def failure_text(error: BaseException) -> str:
    """Return an exception as one line: its type and what it says."""
    return f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]


def _checked(tool: Tool, output: Any) -> BaseModel:
    """Return the output as its model. What does not fit is the tool's own failure, and the model reads that it is."""
    assert tool.output is not None
    try:
        # From its fields: an instance that was changed after it was made is checked again.
        given = output.model_dump() if isinstance(output, BaseModel) else output
        return tool.output.model_validate(given)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"]) or tool.output.__name__
        raise ToolError(f"{tool.spec.name} returned what its own schema refuses: {where}: {detail['msg']}") from error
