"""Measure how many greedy runs differ between a run alone and the same run among fifteen others.

    python tests/runtime/measure_greedy.py PROJECT TASKS.jsonl RUNS [MODEL]

In the home of `KOBOSHI_HOME`; `KOBOSHI_WORKER__…` sets how the model is loaded. Prints one JSON object: how many
of the runs differ in any token, and for each the step, and how sure the model was of either token where they part.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from koboshi_runtime.config import load_config
from koboshi_runtime.home import open_home
from koboshi_runtime.records import Purpose, Trajectory
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.session import Place, Session, open_session
from koboshi_runtime.tasks import Task, load_tasks

AMONG = 16


async def _runs(session: Session, tasks: list[Task], jobs: int) -> list[Trajectory]:
    results = await session.runner(RunSettings(purpose=Purpose.BENCH, jobs=jobs)).run_all(tasks)
    print(f"  {len(tasks)} runs, {jobs} at once", file=sys.stderr, flush=True)
    return [session.store.trajectory(result.run_id) for result in results]


def _parted(alone: Trajectory, among: Trajectory) -> dict[str, Any] | None:
    for left, right in zip(alone.turns, among.turns, strict=False):
        if left.reply.ids == right.reply.ids:
            continue
        same = [a == b for a, b in zip(left.reply.ids, right.reply.ids, strict=False)]
        at = same.index(False) if False in same else len(same)
        sure = [turn.reply.raw_logprobs[at] for turn in (left, right) if at < len(turn.reply.ids)]
        return {"task": alone.header.task_id, "step": left.index, "token": at, "logprobs": [round(x, 4) for x in sure]}
    return None if len(alone.turns) == len(among.turns) else {"task": alone.header.task_id, "turns": len(among.turns)}


async def measure(folder: Path, file: Path, count: int, ref: str | None) -> dict[str, Any]:
    """Run the first `count` tasks alone, and among others, and compare them token by token."""
    place = Place(open_home(), folder, load_config(folder, {}).settings)
    async with open_session(place, model_ref=ref, runs=AMONG) as session:
        tasks = list(load_tasks(file)[:count])
        # Once before, so that the common beginning is in the cache for both.
        await _runs(session, tasks[:1], 1)
        started = time.monotonic()
        alone, between = await _runs(session, tasks, 1), time.monotonic()
        among, ended = await _runs(session, tasks, AMONG), time.monotonic()
    parted = [found for pair in zip(alone, among, strict=True) if (found := _parted(*pair))]
    seconds = {"alone_s": round(between - started, 1), "among_s": round(ended - between, 1)}
    return {"runs": len(tasks), "differ": len(parted), **seconds, "parted": parted}


if __name__ == "__main__":
    project, task_file, runs, *model = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(Path(project), Path(task_file), int(runs), next(iter(model), None)))))
