"""Python: a short program in an interpreter of its own, sandboxed."""

import sys
from typing import Annotated

from pydantic import Field

from ..definition import ToolContext, tool
from .programs import run_program


@tool(effect="exec")
def python(program: Annotated[str, Field(min_length=1, max_length=2000)], context: ToolContext) -> str:
    """Run a Python program in the workspace and return what it prints."""
    return run_program([sys.executable, "-I", "-"], context.workspace, text=program)
