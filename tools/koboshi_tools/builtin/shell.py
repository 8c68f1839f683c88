"""The shell: one command line in the workspace, sandboxed."""

from typing import Annotated

from pydantic import Field

from ..definition import ToolContext, tool
from .programs import run_program


@tool(effect="exec")
def shell(command: Annotated[str, Field(min_length=1, max_length=1000)], context: ToolContext) -> str:
    """Run a shell command in the workspace; there is no network."""
    return run_program(["/bin/sh", "-c", command], context.workspace)
