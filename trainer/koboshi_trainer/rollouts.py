"""Run train tasks several times each, to learn from what became of them.

A pair of task and sample that has ended already, for the same model, seed, temperature and condition, is not run again:
a round that was cut off goes on where it stopped, and a round that is whole costs one read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from koboshi_runtime.records import EndReason, OutcomeLabel, Purpose, RunHeader, Split
from koboshi_runtime.runner import Runner, RunResult, side_by_side
from koboshi_runtime.store import RunFilter
from koboshi_runtime.tasks import Task

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
    """How many runs of a round are done, of how many, and the one that just ended."""

    done: int
    wanted: int
    result: RunResult


async def roll_out(
    runner: Runner,
    tasks: Sequence[Task],
    tries: Tries,
    *,
    on_progress: Callable[[RolloutProgress], None] | None = None,
) -> list[str]:
    """Return the run ids of every task's tries, in the order of the tasks, then those of the retries.

    Those that are stored are not rerun. Raises StoreError if a run cannot be recorded; those that ended before are
    stored.
    """
    trying = _at(runner, tries.temperature)
    run_ids = await make_missing(trying, tasks, samples=tries.samples, on_progress=on_progress)
    if tries.retries == 0:
        return run_ids
    solved = {task for task, run_id in _paired(tasks, run_ids, tries.samples) if _succeeded(runner, run_id)}
    unsolved = [task for place, task in enumerate(tasks) if place not in solved]

    def told(progress: RolloutProgress) -> None:
        if on_progress is not None:
            before = len(run_ids)
            on_progress(progress._replace(done=before + progress.done, wanted=before + progress.wanted))

    again = _at(runner, tries.retry_temperature)
    return run_ids + await make_missing(again, unsolved, samples=tries.retries, first=tries.samples, on_progress=told)


def _at(runner: Runner, temperature: float) -> Runner:
    settings = replace(runner.settings, purpose=Purpose.ROLLOUT, split=Split.TRAIN, temperature=temperature)
    return replace(runner, settings=settings)


def _paired(tasks: Sequence[Task], run_ids: Sequence[str], samples: int) -> Iterator[tuple[int, str]]:
    """Yield the place of a task with each of its runs."""
    return zip((place for place in range(len(tasks)) for _ in range(samples)), run_ids, strict=True)


def _succeeded(runner: Runner, run_id: str) -> bool:
    return runner.store.trajectory(run_id).outcome is OutcomeLabel.SUCCESS


async def make_missing(
    runner: Runner,
    tasks: Sequence[Task],
    *,
    samples: int = 1,
    first: int = 0,
    on_progress: Callable[[RolloutProgress], None] | None = None,
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
                on_progress(RolloutProgress(done, len(pairs), result))

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
