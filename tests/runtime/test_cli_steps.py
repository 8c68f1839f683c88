"""What a person at a terminal sees of a run while it goes on."""

import asyncio
from pathlib import Path

from tests.runtime.run_makers import calls, runner, task
from tests.runtime.store_samples import ALLOWED, OK, intent

from koboshi_policies import Verdict
from koboshi_runtime.cli.steps import step_line
from koboshi_runtime.store import Store
from koboshi_runtime.store.recorder import Event
from koboshi_tools import Transport


def test_run_tells_its_turns_calls_and_results_as_they_happen(tmp_path: Path) -> None:
    told: list[Event] = []
    replies = [calls(("look", {"key": "a"})), "<tool_call>\nbroken", calls(("banned", {"text": "x"})), "done"]
    made = runner(tmp_path, Store.open(tmp_path / "traces.db"), replies, watch=told.append)
    asyncio.run(made.run(task()))
    begins = [
        "step 0: calls, ",
        "  look(",
        "  → value",
        "step 1: invalid",
        "step 2: calls",
        "  banned",
        "  → denied",
        "step 3: answers",
    ]
    lines = [step_line(event) for event in told]
    assert [line[: len(begin)] for line, begin in zip(lines, begins, strict=True)] == begins
    assert lines[1] == "  look(key='a')"
    assert "deny" in lines[5]


def test_line_is_safe_and_no_wider_than_a_terminal() -> None:
    line = step_line(OK.model_copy(update={"output": "\x1b[2Jone\ntwo" + "x" * 500, "transport": Transport.ERROR}))
    assert line.startswith("  → error: \\x1b[2Jone\\ntwoxx")
    assert len(line) == 110


def test_call_that_may_not_be_made_says_why() -> None:
    denied = ALLOWED.model_copy(update={"verdict": Verdict.DENY, "reason": "no rule"})
    assert step_line(intent("k").model_copy(update={"decision": denied})).endswith(" deny: no rule")
