"""The process that `test_kill_run` kills: scripted runs with a tool that notes a line for each call.

It prints the id of each run that is acknowledged. Given `resume`, it takes up whatever an earlier one left; nobody is
there to say whether a call in doubt is to be made again.
"""

import asyncio
import sys
from pathlib import Path

from tests.runtime.run_makers import TOOLS, calls, runner, task

from koboshi_runtime.project import Budgets
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_tools import Tool, ToolContext, tool

RUNS = 12


@tool(effect="write", name="note", sandbox=False)
def note(text: str, context: ToolContext) -> str:
    """Add a line to the notes in one write, which a kill leaves whole or undone."""
    with (context.workspace / "notes").open("ab", buffering=0) as file:
        file.write(f"{text}\n".encode())
    return f"noted {text}"


def replies(name: str) -> list[str]:
    """Return the turns of one run: every line that it notes is its own. Runs differ in length, to be out of step."""
    looks = int(name.rpartition("-")[2])
    return [
        *(calls(("look", {"key": f"{number}"})) for number in range(looks)),
        calls(("note", {"text": f"{name}/0"})),
        calls(("look", {"key": name}), ("note", {"text": f"{name}/1"}), ("note", {"text": f"{name}/2"})),
        calls(("look", {"key": name}), ("look", {"key": name + name})),
        calls(("note", {"text": f"{name}/3"})),
        "done",
    ]


async def main(folder: Path, verb: str, *, noting: Tool = note, runs: int = RUNS) -> None:
    """Carry out or resume runs side by side, each with a script of its own."""
    store = Store.open(folder / "traces.db")
    tools, budgets = TOOLS | {"note": noting}, Budgets(max_steps=100, max_calls=100, max_tokens=100_000)

    async def begin(name: str) -> None:
        result = await runner(folder, store, replies(name), tools=tools, budgets=budgets).run(task(name))
        print(result.run_id, flush=True)

    async def go_on(run_id: str) -> None:
        found = store.trajectory(run_id)
        assert found.header.task_id is not None
        model = ScriptedModel(replies(found.header.task_id)[len(found.turns) :])
        await runner(folder, store, model, tools=tools, budgets=budgets).resume(run_id)

    async with asyncio.TaskGroup() as group:
        if verb == "resume":
            for run_id in store.unfinished():
                group.create_task(go_on(run_id))
        else:
            for number in range(runs):
                group.create_task(begin(f"{verb}-{number}"))
    store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
