"""One night: select, try tasks, build, train, export, parity, gate, swap, report.

The stages up to the build are kept in the night's folder, those of the training in the training's own; a night that was
killed at any point goes on where it stood, on the dataset that it froze, when it is called once more. Each attempt is a
job in the store, and so is a night in which there was nothing to do, with its reason. Nothing here touches the live
world: what runs are made are rollouts and gates, on scratch copies, and only the registry's pointer moves at the end.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.ids import utc_now
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.registry import short
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.store import JobStatus, RunFilter
from koboshi_runtime.store_labels import count_labels
from koboshi_runtime.tasks import load_tasks
from koboshi_tools import Frozen, KoboshiError, RefusedError

from .dataset import Counts, DatasetError
from .morning import Cost, Kind, Learnt, Morning, disk_of
from .morning_files import write_morning
from .night_place import Night, alone, open_night
from .pipeline import Listener, TrainResult, build_dataset_here, train
from .readiness import JOB, readiness
from .rollouts import RolloutProgress, roll_out
from .stages import FitPlan
from .workshop import Workshop


@dataclass(frozen=True, slots=True)
class NightPlan:
    """How a night trains and what it may try."""

    fit: FitPlan
    settings: NightlySettings
    listener: Listener = field(default_factory=Listener)
    on_rollout: Callable[[RolloutProgress], None] = lambda progress: None


class _NothingToDoError(KoboshiError):
    """There is no reason for a night."""


class _Selected(Frozen):
    task_ids: tuple[str, ...]


class _Tried(Frozen):
    outcomes: dict[str, int]


class _Built(Frozen):
    path: str
    counts: Counts
    seen: int


@dataclass(slots=True)
class _Found:
    """What a night came to so far; filled stage by stage, so that a night that fails can report what it did."""

    tried: dict[str, int] = field(default_factory=dict)
    built: _Built | None = None
    trained: TrainResult | None = None


def run_night(workshop: Workshop, plan: NightPlan) -> Morning:
    """Walk one night and return its report, which is written and recorded by then.

    A stage that fails ends the night as failed, in its report. Raises NightBusyError if another is at work.
    """
    with alone(workshop.home):
        ended = _close_jobs(workshop)
        night = open_night(workshop.home, str(workshop.project.root), ended=ended.__contains__)
        job = workshop.store.start_job(JOB, {"night_id": night.begun.night_id, "project": workshop.project.name})
        night.tell, found = plan.listener.on_stage, _Found()
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


def _walked(workshop: Workshop, plan: NightPlan, night: Night, found: _Found) -> Morning:
    try:
        _walk(workshop, plan, night, found)
    except (_NothingToDoError, DatasetError) as error:
        return _morning(workshop, plan, night, found, Kind.NOTHING, error)
    except RefusedError as error:
        return _morning(workshop, plan, night, found, Kind.REFUSED, error)
    except KoboshiError as error:
        return _morning(workshop, plan, night, found, Kind.FAILED, error)
    promoted = found.trained is not None and found.trained.promoted
    return _morning(workshop, plan, night, found, Kind.PROMOTED if promoted else Kind.REFUSED, None)


def _walk(workshop: Workshop, plan: NightPlan, night: Night, found: _Found) -> None:
    selected = night.keep("selected", _Selected, lambda: _select(workshop, plan.settings, night))
    if selected.task_ids:
        found.tried = night.keep("tried", _Tried, lambda: _try(workshop, plan, selected, night)).outcomes
    found.built = built = night.keep("built", _Built, lambda: _build(workshop, plan, night))
    listener = replace(plan.listener, on_stage=night.at)

    def fit() -> TrainResult:
        return asyncio.run(train(workshop, plan.fit, dataset=Path(built.path), listener=listener))

    found.trained = night.keep("trained", TrainResult, fit)


def _select(workshop: Workshop, settings: NightlySettings, night: Night) -> _Selected:
    """Choose the train tasks to try: of the project's, those that the current model has not tried yet."""
    night.at("select")
    path = workshop.project.task_file("train")
    if not settings.rollout_tasks or not path.is_file():
        return _Selected(task_ids=())
    model_hash = workshop.registry.current().manifest.model_hash
    wanted = RunFilter(purpose=Purpose.ROLLOUT, model=model_hash, project=workshop.project.name, limit=None)
    tried = {row.task_id for row in workshop.store.runs(wanted)}
    fresh = [task.id for task in load_tasks(path) if task.id not in tried]
    return _Selected(task_ids=tuple(fresh[: settings.rollout_tasks]))


def _try(workshop: Workshop, plan: NightPlan, selected: _Selected, night: Night) -> _Tried:
    night.at("rollouts")
    tasks = {task.id: task for task in load_tasks(workshop.project.task_file("train"))}
    chosen = [tasks[task_id] for task_id in selected.task_ids if task_id in tasks]
    workshop.project.refuse_unrunnable(chosen, workshop.project.check_settings(allow_commands=False))

    async def work() -> list[str]:
        current = workshop.registry.current()
        async with workshop.model(current) as model:
            runner = workshop.runner(model, RunSettings(purpose=Purpose.ROLLOUT, split=Split.TRAIN))
            return await roll_out(
                runner,
                chosen,
                samples=plan.settings.samples,
                temperature=plan.settings.temperature,
                on_progress=plan.on_rollout,
            )

    runs = asyncio.run(work())
    return _Tried(outcomes=dict(Counter(workshop.store.trajectory(run_id).outcome.value for run_id in runs)))


def _build(workshop: Workshop, plan: NightPlan, night: Night) -> _Built:
    night.at("build")
    ready = readiness(workshop.store, plan.settings)
    if ready.missing:
        raise _NothingToDoError(ready.text, hint="See which with: koboshi outcome queue" if ready.unlabelled else None)
    # Read before the dataset is: a label that comes between counts as new again, and none is lost.
    seen = count_labels(workshop.store).last
    dataset = asyncio.run(build_dataset_here(workshop))
    return _Built(path=str(dataset.path), counts=dataset.manifest.counts, seen=seen)


def _morning(
    workshop: Workshop, plan: NightPlan, night: Night, found: _Found, kind: Kind, error: KoboshiError | None
) -> Morning:
    night.at("report")
    trained = found.trained
    seen = found.built.seen if found.built and kind is not Kind.FAILED else None
    return Morning(
        night_id=night.begun.night_id,
        project=workshop.project.name,
        began_at=night.begun.began_at,
        ended_at=utc_now(),
        kind=kind,
        live=_live(workshop),
        candidate=trained.name if trained else None,
        reasons=(str(error),) if error else _reasons(trained),
        hint=error.hint if error else None,
        notes=("An earlier attempt was cut off; this one went on where it stood.",) if night.resumed else (),
        learnt=_learnt(plan, found.built, trained) if found.built and trained else None,
        verdict=trained.verdict if trained else None,
        tried=found.tried,
        labels=readiness(workshop.store, plan.settings, seen=seen),
        cost=_cost(night),
        disk=disk_of(workshop.home),
        seen=seen,
    )


def _live(workshop: Workshop) -> str:
    try:
        known = workshop.registry.current().manifest
    except KoboshiError as error:
        # A night that failed for want of a model has a report too.
        return str(error)
    return f"{known.name} {short(known.model_hash)}"


def _reasons(trained: TrainResult | None) -> tuple[str, ...]:
    if trained is None or trained.promoted:
        return ()
    if trained.verdict is None:
        return tuple(f"the file is not the model that was trained: {reason}" for reason in trained.parity.reasons)
    return tuple(reason.text for reason in trained.verdict.reasons)


def _learnt(plan: NightPlan, built: _Built, trained: TrainResult) -> Learnt:
    counts, fit = built.counts, trained.fit
    return Learnt(
        method=plan.fit.method.value,
        rows=counts.labels,
        failure_classes=counts.failure_classes,
        tools=counts.tools,
        demonstrations=counts.demonstrations,
        left_out=counts.excluded,
        optimizer_steps=fit.optimizer_steps,
        tokens=fit.tokens,
        losses=fit.losses,
        held_out_before=fit.held_out_before,
        held_out_after=fit.held_out_after,
    )


def _cost(night: Night) -> Cost:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(
        seconds=night.seconds(),
        processor_s=round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 1),
        # Linux counts in units of 1,024 bytes.
        peak_memory_mb=round(max(own.ru_maxrss, children.ru_maxrss) * 1024 / 1e6),
    )
