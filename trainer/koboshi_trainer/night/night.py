"""One night: select, try tasks, build, train, export, parity, gate, swap, report.

The stages up to the build are kept in the night's folder, those of the training in the training's own; a night that was
killed at any point goes on where it stood, on the dataset that it froze, when it is called once more. Each attempt is a
job in the store, and so is a night in which there was nothing to do, with its reason. Nothing here touches the live
world: what runs are made are rollouts and gates, on scratch copies, and only the registry's pointer moves at the end.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.store import JobStatus, RunFilter
from koboshi_runtime.store.labels import count_labels
from koboshi_runtime.tasks import load_tasks
from koboshi_runtime.watch import Watch, follow, rollbacks
from koboshi_tools import Frozen, KoboshiError, RefusedError

from ..dataset import DatasetError
from ..fit_values import FitProgress
from ..morning.files import write_morning
from ..morning.report import Kind, Morning
from ..pipeline import Listener, TrainResult, build_dataset_here, train
from ..rollouts import RolloutProgress, roll_out
from ..stages import FitPlan
from ..tries import Tries
from ..workshop import Workshop
from .idle import PutOffError
from .morning import Built, Found, morning_of
from .place import Night, alone, open_night
from .preflight import refuse_too_large, refuse_too_long
from .readiness import JOB, readiness


@dataclass(frozen=True, slots=True)
class NightPlan:
    """How a night trains and what it may try.

    `pause` is called with the stage before each of them and between optimizer steps; it may wait, or put the night off
    by raising PutOffError.
    """

    fit: FitPlan
    settings: NightlySettings
    listener: Listener = field(default_factory=Listener)
    on_rollout: Callable[[RolloutProgress], None] = lambda progress: None
    pause: Callable[[str], None] = lambda stage: None


class _NothingToDoError(KoboshiError):
    """There is no reason for a night."""


class _Selected(Frozen):
    task_ids: tuple[str, ...]


class _Tried(Frozen):
    outcomes: dict[str, int]


def run_night(workshop: Workshop, plan: NightPlan) -> Morning:
    """Walk one night and return its report, which is written and recorded by then.

    A stage that fails ends the night as failed, in its report. Raises NightBusyError if another is at work, PutOffError
    if the machine was in use for too long; such a night goes on when it is called once more.
    """
    with alone(workshop.home):
        ended = _close_jobs(workshop)
        night = open_night(workshop.home, str(workshop.project.root), ended=ended.__contains__)
        night.tell, found = _paused(plan), Found(_watch(workshop))
        job = workshop.store.start_job(JOB, {"night_id": night.begun.night_id, "project": workshop.project.name})
        try:
            morning = _walked(workshop, plan, night, found)
            write_morning(workshop.home, morning)
        except BaseException as error:
            reason = {"error": str(error) or repr(error), "night_id": night.begun.night_id}
            workshop.store.finish_job(job, JobStatus.INTERRUPTED, reason)
            raise
        workshop.store.finish_job(job, _status(morning), morning.model_dump(mode="json"))
        night.forget()
        return morning


def _watch(workshop: Workshop) -> Watch | None:
    """Return what the watch took out since the last night, or else how the live model stands."""
    standing = follow(workshop.home, workshop.store, rollback=workshop.settings.watch.rollback)
    nights = [job.started_at for job in workshop.store.jobs(JOB) if job.status is not JobStatus.INTERRUPTED]
    gone = rollbacks(workshop.store, since=nights[0] if nights else "")
    return gone[0] if gone else standing


def _close_jobs(workshop: Workshop) -> set[str]:
    """Close the jobs of killed attempts, and return the ids of the nights that have ended."""
    ended = set()
    for job in workshop.store.jobs(JOB):
        if job.status is JobStatus.RUNNING:
            # Whoever ran it held the lock, and died with it.
            workshop.store.finish_job(job.job_id, JobStatus.INTERRUPTED)
        elif job.status is not JobStatus.INTERRUPTED:
            ended.add(str(job.manifest["night_id"]))
    return ended


def _status(morning: Morning) -> JobStatus:
    return {Kind.REFUSED: JobStatus.REFUSED, Kind.FAILED: JobStatus.FAILED}.get(morning.kind, JobStatus.DONE)


def _walked(workshop: Workshop, plan: NightPlan, night: Night, found: Found) -> Morning:
    try:
        _walk(workshop, plan, night, found)
    except PutOffError:
        raise
    except (_NothingToDoError, DatasetError) as error:
        return morning_of(workshop, plan.fit.method, night, found, Kind.NOTHING, error)
    except RefusedError as error:
        return morning_of(workshop, plan.fit.method, night, found, Kind.REFUSED, error)
    except KoboshiError as error:
        return morning_of(workshop, plan.fit.method, night, found, Kind.FAILED, error)
    promoted = found.trained is not None and found.trained.promoted
    return morning_of(workshop, plan.fit.method, night, found, Kind.PROMOTED if promoted else Kind.REFUSED, None)


def _walk(workshop: Workshop, plan: NightPlan, night: Night, found: Found) -> None:
    def fit_step(progress: FitProgress) -> None:
        plan.listener.on_fit(progress)
        plan.pause("fit")

    selected = night.keep("selected", _Selected, lambda: _select(workshop, plan.settings, night))
    if selected.task_ids:
        found.tried = night.keep("tried", _Tried, lambda: _try(workshop, plan, selected, night)).outcomes
    found.built = built = night.keep("built", Built, lambda: _build(workshop, plan, night))
    listener = replace(plan.listener, on_stage=night.at, on_fit=fit_step)

    def fit() -> TrainResult:
        return asyncio.run(train(workshop, plan.fit, dataset=Path(built.path), listener=listener))

    found.trained = night.keep("trained", TrainResult, fit)


def _paused(plan: NightPlan) -> Callable[[str], None]:
    def told(stage: str) -> None:
        # To see that there is nothing to do, or to write down what was done, disturbs nobody.
        if stage not in {"select", "report"}:
            plan.pause(stage)
        plan.listener.on_stage(stage)

    return told


def _select(workshop: Workshop, settings: NightlySettings, night: Night) -> _Selected:
    """Choose the train tasks to try, and refuse a night that has nothing to learn from or no room."""
    night.at("select")
    chosen = _untried(workshop, settings.rollout_tasks)
    if not chosen:
        _refuse_unready(workshop, settings)
    refuse_too_large(workshop)
    return _Selected(task_ids=chosen)


def _untried(workshop: Workshop, count: int) -> tuple[str, ...]:
    """Return up to `count` ids of the project's train tasks, those that the current model has not tried yet."""
    path = workshop.project.task_file("train")
    if not count or not path.is_file():
        return ()
    model_hash = workshop.registry.current().manifest.model_hash
    wanted = RunFilter(purpose=Purpose.ROLLOUT, model=model_hash, project=workshop.project.name, limit=None)
    tried = {row.task_id for row in workshop.store.runs(wanted)}
    return tuple([task.id for task in load_tasks(path) if task.id not in tried][:count])


def _refuse_unready(workshop: Workshop, settings: NightlySettings) -> None:
    ready = readiness(workshop.store, settings)
    if ready.missing:
        raise _NothingToDoError(ready.text, hint="See which with: koboshi outcome queue" if ready.unlabelled else None)


def _try(workshop: Workshop, plan: NightPlan, selected: _Selected, night: Night) -> _Tried:
    night.at("rollouts")
    tasks = {task.id: task for task in load_tasks(workshop.project.task_file("train"))}
    chosen = [tasks[task_id] for task_id in selected.task_ids if task_id in tasks]
    workshop.project.refuse_unrunnable(chosen, workshop.project.check_settings(allow_commands=False))

    async def work() -> list[str]:
        current = workshop.registry.current()
        async with workshop.model(current) as model:
            runner = workshop.runner(model, RunSettings(purpose=Purpose.ROLLOUT, split=Split.TRAIN))
            tries = _tries(plan.settings, asks_for_failures=model.info.profile.conditions is not None)
            return await roll_out(runner, chosen, tries, on_progress=plan.on_rollout)

    runs = asyncio.run(work())
    return _Tried(outcomes=dict(Counter(workshop.store.trajectory(run_id).outcome.value for run_id in runs)))


def _tries(settings: NightlySettings, *, asks_for_failures: bool) -> Tries:
    return Tries(
        samples=settings.samples,
        temperature=settings.temperature,
        retries=settings.retries,
        retry_temperature=settings.retry_temperature,
        hard_negatives=settings.hard_negatives if asks_for_failures else 0,
        forks=settings.forks,
        finishes=settings.finishes,
    )


def _build(workshop: Workshop, plan: NightPlan, night: Night) -> Built:
    night.at("build")
    _refuse_unready(workshop, plan.settings)
    # Read before the dataset is: a label that comes between counts as new again, and none is lost.
    seen = count_labels(workshop.store).last
    dataset = asyncio.run(build_dataset_here(workshop))
    refuse_too_long(workshop, len(dataset.manifest.run_ids), plan.settings)
    return Built(path=str(dataset.path), counts=dataset.manifest.counts, seen=seen)
