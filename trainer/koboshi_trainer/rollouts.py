"""Run train tasks several times each, to learn from what became of them.

A pair of task and sample that has ended already, for the same model, seed, temperature and condition, is not run again:
a round that was cut off goes on where it stopped, and a round that is whole costs one read.
"""

from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from koboshi_runtime.records import EndReason, OutcomeLabel, Purpose, RunHeader, Split, Trajectory
from koboshi_runtime.runner import Runner, side_by_side
from koboshi_runtime.store import RunFilter
from koboshi_runtime.tasks import Task
from koboshi_runtime.traces.blame import find_blame, forks_at
from koboshi_tools import UsageError

from .at_hand import at_hand
from .methods import FAILURE, SUCCESS
from .quality import MALFORMED, failure_class
from .tries import Tries

# Ends that say nothing about the model: such a run is made again.
TO_BE_REPEATED = frozenset({EndReason.MODEL_ERROR, EndReason.TIME_BUDGET, EndReason.WORKSPACE_LOST, EndReason.REDACTED})


class RunKey(NamedTuple):
    """What tells the runs of one model in one project apart."""

    task_id: str | None
    prompt: str
    sample: int
    seed: int
    temperature: float
    guidance: float
    condition: str | None
    profile: str
    system: str
    policy_hash: str


class RolloutProgress(NamedTuple):
    """How many runs of a round are done, of how many: more may follow from what becomes of them."""

    done: int
    wanted: int


OnProgress: TypeAlias = Callable[[RolloutProgress], None]


async def roll_out(
    runner: Runner, tasks: Sequence[Task], tries: Tries, *, on_progress: OnProgress | None = None
) -> list[str]:
    """Return the run ids of every task's tries, in the order of the tasks, then those of what was tried beyond.

    Those that are stored are not rerun. Raises StoreError if a run cannot be recorded; those that ended before are
    stored. Raises UsageError for tries under conditions with a model that knows none.
    """
    if tries.hard_negatives and not runner.model.info.profile.conditions:
        raise UsageError(
            f"{runner.model.info.name} cannot be asked for a failure: it was not trained under conditions here",
            hint="Leave hard_negatives out for it.",
        )
    run_ids: list[str] = []

    async def more(trying: Runner, some: Sequence[Task], count: int, first: int = 0) -> None:
        told = _behind(len(run_ids), on_progress)
        run_ids.extend(await make_missing(trying, some, samples=count, first=first, on_progress=told))

    await more(_at(runner, tries.temperature), tasks, tries.samples)
    outcomes = _outcomes(runner, run_ids, tries.samples)
    if tries.retries:
        again = _at(runner, tries.retry_temperature, guidance=tries.retry_guidance)
        # What nobody could judge is not made better by trying it again.
        unsolved = [task for task, found in zip(tasks, outcomes, strict=True) if _is_unsolved(found)]
        await more(again, unsolved, tries.retries, first=tries.samples)
    if tries.hard_negatives:
        wrong = _at(runner, tries.retry_temperature, condition=FAILURE)
        sure = [task for task, found in zip(tasks, outcomes, strict=True) if found == {OutcomeLabel.SUCCESS}]
        await more(wrong, sure, tries.hard_negatives)
    if tries.forks:
        told = _behind(len(run_ids), on_progress)
        run_ids += await fork_failures(_at(runner, tries.temperature), run_ids, tries.forks, on_progress=told)
    if tries.finishes:
        told = _behind(len(run_ids), on_progress)
        run_ids += await finish_failures(_at(runner, tries.temperature), run_ids, tries.finishes, on_progress=told)
    # A run that is forked for both reasons names its forks twice.
    return list(dict.fromkeys(run_ids))


async def fork_failures(
    runner: Runner, run_ids: Sequence[str], samples: int, *, on_progress: OnProgress | None = None
) -> list[str]:
    """Return the run ids of the forks that show where a failed run was lost, of one run for each task of both outcomes.

    Only a well-formed failure of more than one step is forked. One whose turns cannot be said again is passed over: its
    forks are stored with the reason.
    """
    chosen = _worth_forking([runner.store.trajectory(run_id) for run_id in run_ids])

    async def blamed(failed: Trajectory) -> None:
        await find_blame(runner, failed, samples=samples, solved=True)

    return await _forked(runner, chosen, blamed, samples, on_progress)


async def finish_failures(
    runner: Runner, run_ids: Sequence[str], samples: int, *, on_progress: OnProgress | None = None
) -> list[str]:
    """Return the run ids of `samples` forks from where a failed run had its answer at hand, one run a task."""
    chosen: dict[str, tuple[Trajectory, int]] = {}
    for run in map(runner.store.trajectory, run_ids):
        if _is_well_meant(run) and run.header.forked_at is None and (place := at_hand(run)) is not None:
            chosen.setdefault(run.header.prompt, (run, place))
    places = {run.run_id: place for run, place in chosen.values()}

    async def finished(failed: Trajectory) -> None:
        await forks_at(runner, failed, places[failed.run_id], samples)

    return await _forked(runner, [run for run, _ in chosen.values()], finished, samples, on_progress)


async def _forked(
    runner: Runner,
    chosen: Sequence[Trajectory],
    fork: Callable[[Trajectory], Awaitable[None]],
    samples: int,
    on_progress: OnProgress | None,
) -> list[str]:
    """Fork every chosen run, and return the run ids of all its forks."""
    queue, found = iter(chosen), dict[str, list[str]]()

    async def work() -> None:
        for failed in queue:
            # What cannot be forked says so in the forks that were tried.
            with suppress(UsageError):
                await fork(failed)
            rows = runner.store.runs(RunFilter(fork_of=failed.run_id, model=runner.model.info.model_hash))
            found[failed.run_id] = [row.run_id for row in reversed(rows)]
            if on_progress is not None:
                on_progress(RolloutProgress(len(found), len(chosen)))

    jobs = runner.settings.jobs or runner.model.info.parallel
    await side_by_side(work, min(max(1, jobs // samples), len(chosen)))
    return [run_id for failed in chosen for run_id in found[failed.run_id]]


def _worth_forking(runs: Sequence[Trajectory]) -> list[Trajectory]:
    solved = {run.header.prompt for run in runs if run.outcome is OutcomeLabel.SUCCESS}
    chosen: dict[str, Trajectory] = {}
    for run in runs:
        if _is_well_meant(run) and len(run.turns) > 1 and run.header.prompt in solved:
            chosen.setdefault(run.header.prompt, run)
    return list(chosen.values())


def _is_well_meant(run: Trajectory) -> bool:
    """Say whether a run failed, well-formed, though a success was asked for."""
    kind = failure_class(run)
    return kind is not None and kind not in MALFORMED and run.header.condition in {None, SUCCESS}


def _behind(before: int, on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda told: on_progress(RolloutProgress(before + told.done, before + told.wanted))


def _at(runner: Runner, temperature: float, *, guidance: float = 0.0, condition: str | None = None) -> Runner:
    settings = replace(
        runner.settings,
        purpose=Purpose.ROLLOUT,
        split=Split.TRAIN,
        temperature=temperature,
        guidance=guidance,
        condition=condition or runner.settings.condition,
    )
    return replace(runner, settings=settings)


def _outcomes(runner: Runner, run_ids: Sequence[str], samples: int) -> list[set[OutcomeLabel]]:
    """Return how the runs of each task ended, in the order of the tasks."""
    found = [runner.store.trajectory(run_id).outcome for run_id in run_ids]
    return [set(found[at : at + samples]) for at in range(0, len(found), samples)]


def _is_unsolved(found: Set[OutcomeLabel]) -> bool:
    return OutcomeLabel.FAILURE in found and OutcomeLabel.SUCCESS not in found


async def make_missing(
    runner: Runner,
    tasks: Sequence[Task],
    *,
    samples: int = 1,
    first: int = 0,
    on_progress: OnProgress | None = None,
) -> list[str]:
    """Return the run ids of every task's `samples`, counted from `first`; those that the runner's store holds are kept.

    Runs that were stored under another purpose do not count.
    """
    found = stored_runs(runner, demonstrations=False)
    pairs = [(task, sample) for task in tasks for sample in range(first, first + samples)]
    missing = [(task, sample) for task, sample in pairs if key_of(runner, task, sample) not in found]
    queue, done = iter(missing), len(pairs) - len(missing)

    async def work() -> None:
        nonlocal done
        for task, sample in queue:
            result = await runner.run(task, sample=sample)
            found[key_of(runner, task, sample)] = result.run_id
            done += 1
            if on_progress is not None:
                on_progress(RolloutProgress(done, len(pairs)))

    runner.store.assign_splits([(task.prompt, runner.settings.split) for task in tasks])
    await side_by_side(work, min(runner.settings.jobs or runner.model.info.parallel, len(missing)))
    return [found[key_of(runner, task, sample)] for task, sample in pairs]


def key_of(runner: Runner, task: Task, sample: int) -> RunKey:
    """Return the key that a run of `task` by `runner` has."""
    settings, profile = runner.settings, runner.model.info.profile
    return RunKey(
        task_id=task.id,
        prompt=task.prompt,
        sample=sample,
        seed=settings.seed,
        temperature=settings.temperature,
        guidance=settings.guidance,
        condition=settings.condition if profile.conditions else None,
        profile=profile.model_dump_json(),
        system=runner.project.system_prompt,
        policy_hash=runner.policy.hash,
    )


def stored_runs(runner: Runner, *, demonstrations: bool) -> dict[RunKey, str]:
    """Return the run ids of the ended runs of the runner's purpose, model and project, by key.

    A demonstration that its checker did not pass counts as not stored: it must never be taken for a solved one.
    """
    wanted = RunFilter(
        purpose=runner.settings.purpose,
        model=runner.model.info.model_hash,
        project=runner.project.name,
        limit=None,
    )
    found = {}
    for row in reversed(runner.store.runs(wanted)):
        trajectory = runner.store.trajectory(row.run_id)
        if trajectory.end is None or trajectory.end.reason in TO_BE_REPEATED:
            continue
        if trajectory.header.demonstration is not demonstrations:
            continue
        if not demonstrations or trajectory.outcome is OutcomeLabel.SUCCESS:
            found[_key(trajectory.header)] = row.run_id
    return found


def _key(header: RunHeader) -> RunKey:
    return RunKey(
        task_id=header.task_id,
        prompt=header.prompt,
        sample=header.sample,
        seed=header.seed,
        temperature=header.temperature,
        guidance=header.guidance,
        condition=header.condition,
        profile=header.profile.model_dump_json(),
        system=header.system,
        policy_hash=header.policy_hash,
    )
