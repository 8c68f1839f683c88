"""What sandbox tests share: a sandbox of each kind that this machine has, and tools written to a file."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koboshi_tools import (
    Sandbox,
    Tool,
    ToolCall,
    ToolContext,
    ToolResult,
    builtin_tools,
    execute,
    load_tools_folder,
)
from koboshi_tools.sandbox import Mode, probe


@pytest.fixture(scope="module", params=list(Mode), ids=str)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox of each kind; the kinds that this machine lacks are skipped by name."""
    mode: Mode = request.param
    if mode in probe().missing:
        pytest.skip(f"NO {mode.value} SANDBOX HERE: {probe().missing[mode]}")
    made = Sandbox(mode)
    yield made
    made.close()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One workspace for a file of tests: under bwrap each needs a keeper of its own."""
    return tmp_path_factory.mktemp("workspace")


def written(folder: Path, text: str) -> dict[str, Tool]:
    """Return the tools of a file with this text."""
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(f"from koboshi_tools import *\n\n{text}", encoding="utf-8")
    return load_tools_folder(folder)


def call(
    sandbox: Sandbox,
    workspace: Path,
    made: Tool | str,
    *,
    timeout_s: float = 20,
    max_output_bytes: int = 4000,
    settings: dict[str, Any] | None = None,
    **arguments: Any,
) -> ToolResult:
    """Carry out one call of a tool, or of the built-in one of that name."""
    chosen = builtin_tools()[made] if isinstance(made, str) else made
    context = ToolContext(workspace, settings or {})
    asked = ToolCall(name=chosen.spec.name, arguments=arguments)
    running = execute(asked, chosen, context, timeout_s=timeout_s, max_output_bytes=max_output_bytes, sandbox=sandbox)
    return asyncio.run(running)
