"""A process that has tools at work is killed at 200 random points and its runs are resumed: no effect happens twice.

The tool notes a line in one write. In 150 of the kills it works in the process that is killed, in 50 in a sandbox of
its own, where the keeper must end it with the process that called; twenty of those are resumed, and killed again.
"""

import asyncio
import multiprocessing
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.faults.kill_run_child import main, note
from tests.runtime.run_makers import notes

from koboshi_runtime.records import EndReason, RunStatus
from koboshi_runtime.store import RunFilter, Store
from koboshi_tools import Tool, Transport, load_tools_folder
from koboshi_tools.sandbox import probe

RUNS = 3
NOTES = RUNS * 4
SANDBOXED = '''
from koboshi_tools import ToolContext, tool


@tool(effect="write")
def note(text: str, context: ToolContext) -> str:
    """Add a line to the notes in one write, which a kill leaves whole or undone."""
    with (context.workspace / "notes").open("ab", buffering=0) as file:
        file.write(f"{text}\\n".encode())
    return f"noted {text}"
'''


def work(folder: Path, verb: str, sandboxed: bool) -> None:
    """Be the process that is killed, or the one that resumes."""
    tool: Tool = load_tools_folder(folder / "tools")["note"] if sandboxed else note
    asyncio.run(main(folder, verb, noting=tool, runs=RUNS))


@pytest.fixture(scope="module")
def forking() -> Any:
    """Starts processes that have everything imported: 400 of them, each in some milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.test_f1_effects"])
    return context


def killed(forking: Any, folder: Path, verb: str, *, sandboxed: bool, chance: random.Random) -> None:
    """Start runs, or go on with them, and kill the process some time after a number of notes."""
    before = len(notes(folder))
    process = forking.Process(target=work, args=(folder, verb, sandboxed))
    process.start()
    wanted, file = before + chance.randrange(NOTES - before + 1), folder / "workspace" / "notes"
    while process.is_alive() and (not file.exists() or file.read_bytes().count(b"\n") < wanted):
        process.join(0.002)
    process.join(chance.uniform(0, 0.03))
    with suppress(ProcessLookupError):
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(200))
def test_no_effect_happens_twice_wherever_the_process_is_killed(forking: Any, tmp_path: Path, kill: int) -> None:
    sandboxed, chance = kill >= 150, random.Random(kill)
    assert not sandboxed or probe().mode is not None, probe().missing
    for name in ("workspace", "tools"):
        (tmp_path / name).mkdir()
    (tmp_path / "tools" / "note.py").write_text(SANDBOXED, encoding="utf-8")
    killed(forking, tmp_path, "a", sandboxed=sandboxed, chance=chance)
    assert Store.open(tmp_path / "traces.db").check().ok
    if kill >= 180:
        killed(forking, tmp_path, "resume", sandboxed=sandboxed, chance=chance)
    resuming = forking.Process(target=work, args=(tmp_path, "resume", sandboxed))
    resuming.start()
    resuming.join(60)
    assert resuming.exitcode == 0
    made = Counter(notes(tmp_path))
    assert set(made.values()) <= {1}
    store = Store.open(tmp_path / "traces.db")
    assert store.unfinished() == []
    for row in store.runs(RunFilter(limit=None)):
        found = store.trajectory(row.run_id)
        assert found.end is not None
        noted = [call for call in found.calls if call.intent.call.name == "note" and call.result]
        # What has a result had its effect; what had its effect without one is in doubt, and the run says so.
        assert all(call.result and call.result.transport is Transport.OK for call in noted)
        assert all(made[call.intent.call.arguments["text"]] == 1 for call in noted)
        expected = RunStatus.FAILED if found.end.reason is EndReason.IN_DOUBT else RunStatus.FINISHED
        assert row.status is expected
        assert found.end.reason in (EndReason.IN_DOUBT, EndReason.ANSWER)
