"""Measure how long a sandboxed call takes to start, from the call to the first line of its tool.

Run by hand on a quiet machine: python -m tests.tools.measure_sandbox. Both ends are read from the machine's one
monotonic clock. The keeper is started before, as it is for every call of a workspace but the first; what that first one
costs is printed apart.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from koboshi_tools import Sandbox, Tool, ToolCall, ToolContext, execute, load_tools_folder
from koboshi_tools.sandbox import Mode, probe

CALLS = 100
CODE = '''
import time

from koboshi_tools import tool


@tool(effect="exec")
def now() -> str:
    """Tell the monotonic clock."""
    return repr(time.clock_gettime(time.CLOCK_MONOTONIC))
'''


def start_s(sandbox: Sandbox, made: Tool, workspace: Path) -> float:
    """Return the seconds from a call to the first line of its tool."""
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    result = asyncio.run(execute(ToolCall(name="now", arguments={}), made, ToolContext(workspace), sandbox=sandbox))
    return float(result.output) - began


def main() -> None:
    """Print a line for each kind of sandbox."""
    found = probe()
    for mode in Mode:
        if mode in found.missing:
            print(f"{mode.value}: not here: {found.missing[mode]}")
            continue
        with tempfile.TemporaryDirectory() as name:
            workspace, tools = Path(name) / "workspace", Path(name) / "tools"
            workspace.mkdir()
            tools.mkdir()
            (tools / "own.py").write_text(CODE, encoding="utf-8")
            sandbox, made = Sandbox(mode), load_tools_folder(tools)["now"]
            first = start_s(sandbox, made, workspace)
            times = sorted(start_s(sandbox, made, workspace) for _ in range(CALLS))
            sandbox.close()
        print(
            f"{mode.value}: median {statistics.median(times) * 1000:.1f} ms, best {times[0] * 1000:.1f}, "
            f"90 % below {times[int(CALLS * 0.9)] * 1000:.1f}; the first call of a keeper {first * 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()
