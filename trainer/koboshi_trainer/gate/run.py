"""Run a gate: current and candidate on the same fresh tasks with the same seed, each spoken to in its own profile.

The alpha is granted, on disk, before the first run: a gate that crashes has spent it, and goes on with it that night.
Which tasks are used is in the grant, so that they rotate. The runs are stored like any, with purpose `gate`. The
verdict rests on what is stored, and no run that ended under a grant is made again.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from koboshi_runtime.checkers import CheckSettings
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.runner import RunResult, RunSettings
from koboshi_runtime.statistics import TaskResult, measure
from koboshi_runtime.store import RunFilter
from koboshi_runtime.tasks import Task, load_tasks
from koboshi_tools import UsageError, hash_value

from ..rollouts import TO_BE_REPEATED
from ..workshop import Workshop
from .judge import judge_gate
from .ledger import FILE_NAME, Grant, Ledger
from .tasks import GateChoice, choose_gate_tasks, granted_tasks, plan_tasks
from .values import GateFloors, GateVerdict

OnRun = Callable[[str, int, int], None]
"""Told the side, how many of its runs are done, and of how many."""


async def run_gate(
    workshop: Workshop,
    current: ModelEntry,
    candidate: ModelEntry,
    *,
    floors: GateFloors | None = None,
    most_tasks: int | None = None,
    seed: int = 0,
    on_run: OnRun | None = None,
) -> GateVerdict:
    """Return the verdict on `candidate`.

    `most_tasks` bounds the tasks of each side; without it the plan decides how many the proof needs. Raises
    RefusedError when the error budget is spent, UsageError when the project has no gate tasks, or tasks that cannot be
    judged here.
    """
    ledger = Ledger(workshop.home.models / FILE_NAME, budget=workshop.settings.gate.error_budget)
    hashes = current.manifest.model_hash, candidate.manifest.model_hash
    grant, tasks = _granted(workshop, ledger, hashes, most_tasks)
    sides = {
        name: await evaluate(
            workshop, entry, tasks, purpose=Purpose.GATE, seed=seed, since=grant.at, on_run=_told(on_run, name)
        )
        for name, entry in (("current", current), ("candidate", candidate))
    }
    verdict = judge_gate(
        sides["current"],
        sides["candidate"],
        grant.budget,
        floors or GateFloors(),
        planned_runs=len(tasks),
    )
    ledger.spend(
        grant.grant_id,
        datetime.now(UTC),
        accepted=verdict.accepted,
        p_value=verdict.p_value,
        verdict_hash=hash_of(verdict),
    )
    return verdict


async def evaluate(
    workshop: Workshop,
    entry: ModelEntry,
    tasks: Sequence[Task],
    *,
    purpose: Purpose,
    seed: int = 0,
    since: datetime | None = None,
    on_run: Callable[[int, int], None] | None = None,
) -> list[TaskResult]:
    """Run `tasks` greedily on a model and return what was measured, in their order; runs are stored under `purpose`.

    What has ended since `since` is not run again.
    """
    split = Split.GATE if purpose is Purpose.GATE else Split.TEST
    settings = RunSettings(purpose=purpose, split=split, seed=seed)
    found = {} if since is None else _ended_since(workshop, entry, settings, since)
    missing = [task for task in tasks if task.id not in found]
    done = len(tasks) - len(missing)

    def count(_: RunResult) -> None:
        nonlocal done
        done += 1
        if on_run is not None:
            on_run(done, len(tasks))

    if missing:
        async with workshop.model(entry) as model:
            results = await workshop.runner(model, settings).run_all(missing, on_result=count)
        found |= {task.id: result.run_id for task, result in zip(missing, results, strict=True)}
    return [measure(workshop.store.trajectory(found[task.id])) for task in tasks]


def _ended_since(workshop: Workshop, entry: ModelEntry, settings: RunSettings, since: datetime) -> dict[str, str]:
    """Return the run ids, by task, of a model's runs with these settings that ended since then."""
    wanted = RunFilter(
        purpose=settings.purpose,
        model=entry.manifest.model_hash,
        since=since.isoformat(timespec="milliseconds"),
        limit=None,
    )
    found = {}
    for row in workshop.store.runs(wanted):
        header = workshop.store.trajectory(row.run_id).header
        ended = row.end_reason is not None and row.end_reason not in TO_BE_REPEATED
        if ended and row.task_id is not None and header.seed == settings.seed:
            found[row.task_id] = row.run_id
    return found


def hash_of(verdict: GateVerdict) -> str:
    """Return the hash by which the ledger knows a verdict."""
    return hash_value(verdict.model_dump(mode="json"))


def _granted(
    workshop: Workshop, ledger: Ledger, hashes: tuple[str, str], most: int | None
) -> tuple[Grant, tuple[Task, ...]]:
    """Return tonight's grant for these models and its tasks: one that was cut off, or else a new one."""
    path = workshop.project.task_file("gate")
    if not path.is_file():
        raise UsageError(f"the project {workshop.project.name!r} has no gate tasks", hint=f"Write some to {path}.")
    pool, now = load_tasks(path), datetime.now(UTC)
    begun = ledger.unfinished(now, current=hashes[0], candidate=hashes[1])
    tasks = granted_tasks(pool, begun.tasks) if begun else None
    if begun and tasks:
        return begun, tasks
    choice = _choose(workshop, ledger, pool, most)
    workshop.project.refuse_unrunnable(choice.tasks, CheckSettings())
    return ledger.grant(now, current=hashes[0], candidate=hashes[1], tasks=choice.keys), choice.tasks


def _choose(workshop: Workshop, ledger: Ledger, pool: Sequence[Task], most: int | None) -> GateChoice:
    offered = ledger.offer(datetime.now(UTC))
    wanted = plan_tasks(offered) if offered > 0 else 0
    limit = workshop.settings.gate.tasks if most is None else most
    return choose_gate_tasks(
        pool,
        min(wanted, limit),
        last_used=ledger.last_used(),
        trained_prompts=workshop.store.prompt_hashes((Purpose.WORK, Purpose.ROLLOUT)),
    )


def _told(on_run: OnRun | None, side: str) -> Callable[[int, int], None] | None:
    if on_run is None:
        return None
    return lambda done, wanted: on_run(side, done, wanted)
