"""Measure koboshi and its rivals on one pack, round after round, every side on the same tasks.

A round begins with koboshi itself, through the runner, its store and its tools, and goes on with each rival in a
process of its own, and with koboshi without constraint and without store. The sides of a round are compared with one
another only, so that a busy hour moves both alike.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from koboshi_tools import KoboshiError, UsageError

from ..machine import describe
from ..model import Model
from ..project import load_project
from ..tasks import Task, load_tasks
from ..templates_init import init_project, write_tasks
from ..workermodel import WorkerModel, WorkerSettings
from .figures import BenchReport, costs_of, figures_of, success_rates
from .own import KOBOSHI, OWN_SIDES, RUNS_FILE, play_own
from .plan import BenchPlan, SideResult

SIDES = ("raw", "server", "plain", *OWN_SIDES)
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
    first_token: Callable[[Path], float] | None,
    progress: Callable[[str], None],
) -> BenchReport:
    """Return the report of a measurement. Raises KoboshiError where a side ends without a result.

    `first_token` is given an empty folder and measures a whole `koboshi run` there.
    """
    missing = {}
    sides = [side for side in settings.sides if side != "server" or find_spec("xllamacpp")]
    if len(sides) < len(settings.sides):
        missing["server"] = _MISSING_SERVER
        # Said before the rounds, which take a quarter of an hour.
        progress(f"server is left out: {_MISSING_SERVER}")
    with tempfile.TemporaryDirectory(prefix="koboshi-bench-") as scratch:
        place = Path(scratch)
        tasks = _prepare(place, settings)
        worker = replace(settings.worker, parallel=settings.jobs)
        waited = await asyncio.to_thread(first_token, place) if first_token else None
        pairs = []
        for number in range(settings.pairs):
            pair = {}
            for side in (KOBOSHI, *sides):
                folder = place / f"round-{number}"
                if side in {KOBOSHI, *OWN_SIDES}:
                    # Each on a worker of its own, so that none begins with what another decoded.
                    model = await start(worker)
                    plan = _plan(place, settings, path, model)
                    try:
                        pair[side] = await play_own(side, folder, plan, model, tasks)
                    finally:
                        await model.close()
                else:
                    pair[side] = await asyncio.to_thread(_rival, side, plan, folder)
                _say(progress, number, pair[side])
            pairs.append(pair)
        return BenchReport(
            machine=describe(),
            model=model.info.name,
            pack=settings.pack,
            tasks=len(tasks),
            jobs=settings.jobs,
            pairs=len(pairs),
            figures=figures_of(pairs, settings.jobs),
            costs=costs_of(pairs, waited, settings.jobs),
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


def _rival(side: str, plan: BenchPlan, folder: Path) -> SideResult:
    out = folder / f"{side}.json"
    command = [sys.executable, "-m", "koboshi_runtime.bench", side, plan.model_dump_json(), str(out)]
    if side == "raw":
        command.append(str(folder / RUNS_FILE))
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
