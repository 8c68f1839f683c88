"""Measure koboshi and its rivals on one pack, round after round, every side on the same tasks.

A round begins with koboshi itself, through the runner, its store and its tools, and goes on with each rival in a
process of its own. The sides of a round are compared with one another only, so that a busy hour moves both alike.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from koboshi_policies import Policy, policy_layers
from koboshi_tools import KoboshiError, UsageError, builtin_tools

from ..machine import describe
from ..model import Model
from ..project import load_project
from ..records import OutcomeLabel, Purpose, Split
from ..runner import Runner, RunSettings
from ..store import Store
from ..tasks import Task, load_tasks
from ..templates_init import init_project, write_tasks
from ..workermodel import WorkerModel, WorkerSettings
from .figures import BenchReport, figures_of, success_rates
from .plan import BenchPlan, RunTokens, SideResult, TurnTokens
from .raw import write_runs

SIDES = ("raw", "server", "plain")
_MISSING_SERVER = "the package xllamacpp is not installed: pip install 'koboshi[bench]'"
_SIDE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is measured: `pack` and how many of its tasks, in how many rounds, beside which rivals."""

    pack: str
    tasks: int
    pairs: int
    jobs: int
    sides: Sequence[str]
    worker: WorkerSettings
    seed: int = 0


async def measure(
    settings: BenchSettings,
    *,
    start: Callable[[WorkerSettings], Awaitable[WorkerModel]],
    path: Path,
    progress: Callable[[str], None],
) -> BenchReport:
    """Return the report of a measurement. Raises KoboshiError where a side ends without a result."""
    missing = {}
    sides = [side for side in settings.sides if side != "server" or find_spec("xllamacpp")]
    if len(sides) < len(settings.sides):
        missing["server"] = _MISSING_SERVER
    with tempfile.TemporaryDirectory(prefix="koboshi-bench-") as scratch:
        place = Path(scratch)
        tasks = _prepare(place, settings)
        worker = replace(settings.worker, parallel=settings.jobs)
        pairs = []
        for number in range(settings.pairs):
            model = await start(worker)
            plan = _plan(place, settings, path, model)
            try:
                pair = {"koboshi": await _koboshi(place / f"round-{number}", plan, model, tasks)}
            finally:
                await model.close()
            _say(progress, number, pair["koboshi"])
            for side in sides:
                pair[side] = await asyncio.to_thread(_rival, side, plan, place / f"round-{number}")
                _say(progress, number, pair[side])
            pairs.append(pair)
        return BenchReport(
            machine=describe(),
            model=model.info.name,
            pack=settings.pack,
            tasks=len(tasks),
            jobs=settings.jobs,
            pairs=len(pairs),
            figures=figures_of(pairs),
            success_rates=success_rates(pairs),
            missing=missing,
        )


def _say(progress: Callable[[str], None], number: int, result: SideResult) -> None:
    progress(f"round {number + 1}: {result.side} {result.tokens_per_s:.0f} tokens/s, {result.runs_per_s:.2f} tasks/s")


def _prepare(place: Path, settings: BenchSettings) -> tuple[Task, ...]:
    init_project(place / "project", settings.pack, seed=settings.seed)
    project = load_project(place / "project")
    tasks = load_tasks(project.task_file("dev"))[: settings.tasks]
    if len(tasks) < settings.tasks:
        raise UsageError(
            f"the pack {settings.pack} has {len(tasks)} tasks to measure with, fewer than {settings.tasks}"
        )
    write_tasks(place / "tasks.jsonl", tasks)
    return tasks


def _plan(place: Path, settings: BenchSettings, path: Path, model: Model) -> BenchPlan:
    return BenchPlan(
        model=path,
        profile=model.info.profile,
        project=place / "project",
        tasks=place / "tasks.jsonl",
        jobs=settings.jobs,
        context_tokens=settings.worker.context_tokens,
        threads=settings.worker.threads,
        flash_attention=settings.worker.flash_attention,
        cell_type=settings.worker.cell_type,
    )


async def _koboshi(folder: Path, plan: BenchPlan, model: Model, tasks: Sequence[Task]) -> SideResult:
    folder.mkdir()
    project = load_project(plan.project)
    policy = Policy.load(policy_layers(project.policies, ()))
    store = Store.open(folder / "traces.db")
    runner = Runner(
        project,
        policy,
        builtin_tools(),
        model,
        store,
        RunSettings(purpose=Purpose.BENCH, split=Split.DEV, jobs=plan.jobs),
    )
    started = time.perf_counter()
    results = await runner.run_all(tasks)
    wall = time.perf_counter() - started
    runs = [_tokens_of(store, result.run_id) for result in results]
    store.close()
    write_runs(folder / "runs.jsonl", runs)
    return SideResult(
        side="koboshi",
        wall_s=wall,
        runs=len(results),
        successes=sum(result.outcome is OutcomeLabel.SUCCESS for result in results),
        tokens=sum(sum(turn.sampled) for run in runs for turn in run.turns),
    )


def _tokens_of(store: Store, run_id: str) -> RunTokens:
    turns = []
    for turn in store.trajectory(run_id).turns:
        new = tuple(token for segment in turn.segments for token in segment.ids)
        turns.append(TurnTokens(new_ids=new, reply_ids=turn.reply.ids, sampled=turn.reply.sampled))
    return RunTokens(turns=tuple(turns))


def _rival(side: str, plan: BenchPlan, folder: Path) -> SideResult:
    out = folder / f"{side}.json"
    command = [sys.executable, "-m", "koboshi_runtime.bench", side, plan.model_dump_json(), str(out)]
    if side == "raw":
        command.append(str(folder / "runs.jsonl"))
    done = subprocess.run(
        command, capture_output=True, timeout=_SIDE_SECONDS, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    if done.returncode != 0 or not out.exists():
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing on stderr"]
        raise KoboshiError(
            f"the side {side} ended with {done.returncode}: {last[0]}",
            hint=f"leave it out: koboshi bench --without {side}",
        )
    return SideResult.model_validate_json(out.read_text(encoding="utf-8"))
