"""Koboshi's own sides of a measurement: as it is, without constraint, and with a store that keeps nothing."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from koboshi_policies import Policy, policy_layers
from koboshi_tools import builtin_tools

from ..graph import Agent
from ..project import load_project
from ..records import OutcomeLabel, Purpose, Split, Trajectory
from ..runner import Runner, RunSettings
from ..store import Store
from ..tasks import Task
from ..workermodel import WorkerModel
from .null_store import NullStore
from .plan import BenchPlan, RunTokens, SideResult, TurnTokens
from .raw import write_runs

KOBOSHI = "koboshi"
OWN_SIDES = ("free", "no-store")

RUNS_FILE = "runs.jsonl"


async def play_own(side: str, folder: Path, plan: BenchPlan, model: WorkerModel, tasks: Sequence[Task]) -> SideResult:
    """Run all tasks as `side` does, in `folder`; koboshi as it is leaves its runs there for the yardstick."""
    place = folder / side
    place.mkdir(parents=True)
    project = load_project(plan.project)
    policy = Policy.load(policy_layers(project.policies, ()))
    store = NullStore.at(place / "traces.db") if side == "no-store" else Store.open(place / "traces.db")
    settings = RunSettings(purpose=Purpose.BENCH, split=Split.DEV, jobs=plan.jobs, constrained=side != "free")
    # The graph is made beforehand: importing LangGraph is no part of what is timed.
    runner = Runner(project, policy, builtin_tools(), model, store, settings, Agent())
    empty_kb = _memory_kb(model, "VmRSS")
    started = time.perf_counter()
    results = await runner.run_all(tasks)
    wall = time.perf_counter() - started
    grown = _memory_kb(model, "VmHWM") / empty_kb if empty_kb else None
    found = [] if side == "no-store" else [store.trajectory(result.run_id) for result in results]
    store.close()
    runs = [_tokens_of(run) for run in found]
    if side == KOBOSHI:
        write_runs(folder / RUNS_FILE, runs)
    return SideResult(
        side=side,
        wall_s=wall,
        runs=len(results),
        successes=sum(result.outcome is OutcomeLabel.SUCCESS for result in results),
        tokens=sum(sum(turn.sampled) for run in runs for turn in run.turns),
        reply_s=sum(turn.reply.seconds for run in found for turn in run.turns),
        written=sum(len(turn.reply_ids) for run in runs for turn in run.turns),
        again=sum(map(decoded_again, found)),
        memory_growth=grown,
    )


def decoded_again(run: Trajectory) -> int:
    """Return how many ids the turns after the first decoded though they stood in the cache after the turn before.

    The last id of a reply is not among them: nothing has followed it yet.
    """
    again = 0
    context: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    for turn in run.turns:
        asked = context + tuple(token for segment in turn.segments for token in segment.ids)
        known = min(len(os.path.commonprefix([held, asked])), len(asked) - 1)
        again += max(0, known - turn.reply.reused_tokens)
        held = asked + turn.reply.ids[:-1]
        context = asked + turn.reply.ids if turn.in_context else asked
    return again


def _tokens_of(run: Trajectory) -> RunTokens:
    turns = []
    for turn in run.turns:
        new = tuple(token for segment in turn.segments for token in segment.ids)
        turns.append(TurnTokens(new_ids=new, reply_ids=turn.reply.ids, sampled=turn.reply.sampled))
    return RunTokens(turns=tuple(turns))


def _memory_kb(model: WorkerModel, name: str) -> int:
    """Return a value of the worker's /proc status in kB, 0 where the system has none."""
    path = Path(f"/proc/{model.process_id}/status")
    lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
