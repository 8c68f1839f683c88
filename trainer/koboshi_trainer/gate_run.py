"""Run a gate: current and candidate on the same fresh tasks with the same seed, each spoken to in its own profile.

The alpha is granted, on disk, before the first run: a gate that crashes has spent it. Which tasks are used is in the
grant, so that they rotate. The runs are stored like any, with purpose `gate`, and the verdict rests on what is stored.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from koboshi_runtime.checkers import CheckSettings
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.registry import ModelEntry
from koboshi_runtime.runner import RunResult, RunSettings
from koboshi_runtime.statistics import TaskResult, measure
from koboshi_runtime.tasks import Task, load_tasks
from koboshi_tools import UsageError, hash_value

from .gate import judge_gate
from .gate_tasks import GateChoice, choose_gate_tasks, plan_tasks
from .gate_values import GateFloors, GateVerdict
from .ledger import FILE_NAME, Ledger
from .workshop import Workshop

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
    choice = _choose(workshop, ledger, most_tasks)
    workshop.project.refuse_unrunnable(choice.tasks, CheckSettings())
    hashes = current.manifest.model_hash, candidate.manifest.model_hash
    grant = ledger.grant(datetime.now(UTC), current=hashes[0], candidate=hashes[1], tasks=choice.keys)
    sides = {
        name: await evaluate(workshop, entry, choice.tasks, purpose=Purpose.GATE, seed=seed, on_run=_told(on_run, name))
        for name, entry in (("current", current), ("candidate", candidate))
    }
    verdict = judge_gate(
        sides["current"],
        sides["candidate"],
        grant.budget,
        floors or GateFloors(),
        planned_runs=len(choice.tasks),
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
    on_run: Callable[[int, int], None] | None = None,
) -> list[TaskResult]:
    """Run `tasks` greedily on a model and return what was measured, in their order; runs are stored under `purpose`."""
    split = Split.GATE if purpose is Purpose.GATE else Split.TEST
    settings = RunSettings(purpose=purpose, split=split, seed=seed)
    done = 0

    def count(_: RunResult) -> None:
        nonlocal done
        done += 1
        if on_run is not None:
            on_run(done, len(tasks))

    async with workshop.model(entry) as model:
        results = await workshop.runner(model, settings).run_all(tasks, on_result=count)
    return [measure(workshop.store.trajectory(result.run_id)) for result in results]


def hash_of(verdict: GateVerdict) -> str:
    """Return the hash by which the ledger knows a verdict."""
    return hash_value(verdict.model_dump(mode="json"))


def _choose(workshop: Workshop, ledger: Ledger, most: int | None) -> GateChoice:
    path = workshop.project.task_file("gate")
    if not path.is_file():
        raise UsageError(f"the project {workshop.project.name!r} has no gate tasks", hint=f"Write some to {path}.")
    offered = ledger.offer(datetime.now(UTC))
    wanted = plan_tasks(offered) if offered > 0 else 0
    limit = workshop.settings.gate.tasks if most is None else most
    return choose_gate_tasks(
        load_tasks(path),
        min(wanted, limit),
        last_used=ledger.last_used(),
        trained_prompts=workshop.store.prompt_hashes((Purpose.WORK, Purpose.ROLLOUT)),
    )


def _told(on_run: OnRun | None, side: str) -> Callable[[int, int], None] | None:
    if on_run is None:
        return None
    return lambda done, wanted: on_run(side, done, wanted)
