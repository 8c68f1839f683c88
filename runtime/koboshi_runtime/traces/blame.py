"""Find the step at which a failed run went wrong, without a judge: by going on from before each step again.

A run is forked behind its first turns several times (`forks`). If some forks succeed, all was not lost there; if none
does, it was. The first bad step is the one between the two: from before it a success was still made, from behind it
none. It is found by halving, as in Luo et al., arXiv 2406.06592: the whole run failed, its beginning is where some run
of the task succeeded, and each tally in the middle halves what lies between. Of a run of n steps about log2(n) places
are tried, and what is stored is not tried again.

What it says holds for this model at this temperature: a step is bad if the model cannot recover from it in a few tries.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from koboshi_tools import Frozen, UsageError, hash_value

from ..forks import Fork
from ..records import OutcomeLabel, Purpose, Trajectory
from ..runner import Runner, RunSettings
from ..store import RunFilter, Store
from ..tasks import Task

_SEED_DIGITS = 8


class Tally(Frozen):
    """What became of the forks behind the first `turns` turns; runs that nobody judged are not counted."""

    turns: int
    runs: int
    successes: int


class Blame(Frozen):
    """The first bad step of a failed run, by its index, or None: not found yet, or no run of its task succeeds.

    `solved` says that a run of the task succeeded that is no fork of this one. `tallies` are in the order of turns.
    """

    run_id: str
    steps: int
    solved: bool
    tallies: tuple[Tally, ...]
    first_bad: int | None

    @property
    def hopeless(self) -> bool:
        """Whether no run of the task succeeded, from its beginning or from any later step."""
        return not self.solved and any(each.turns == 0 for each in self.tallies) and _good(self) is None


def blame_of(failed: Trajectory, forks: Iterable[Trajectory], *, solved: bool = False) -> Blame:
    """Return what the stored forks of a failed run say of it."""
    judged = [fork for fork in forks if fork.outcome is not OutcomeLabel.UNKNOWN]
    places = sorted({fork.header.forked_at for fork in judged if fork.header.forked_at is not None})
    tallies = tuple(_tally(place, [fork for fork in judged if fork.header.forked_at == place]) for place in places)
    found = Blame(run_id=failed.run_id, steps=len(failed.turns), solved=solved, tallies=tallies, first_bad=None)
    good = _good(found)
    first_bad = good if good is not None and _bad(found, good) == good + 1 else None
    return found.model_copy(update={"first_bad": first_bad})


def _tally(turns: int, forks: Sequence[Trajectory]) -> Tally:
    return Tally(turns=turns, runs=len(forks), successes=sum(fork.outcome is OutcomeLabel.SUCCESS for fork in forks))


def _good(found: Blame) -> int | None:
    """Return the most turns behind which a success was still made."""
    places = [each.turns for each in found.tallies if each.successes]
    return max(places, default=0 if found.solved else None)


def _bad(found: Blame, good: int) -> int:
    """Return the fewest turns, more than `good`, behind which none was made: at most the run's own, which failed."""
    return min((each.turns for each in found.tallies if each.turns > good), default=found.steps)


def next_place(found: Blame) -> int | None:
    """Return the number of turns behind which to fork next, None if there is nothing more to find."""
    good = _good(found)
    if good is None:
        return None if found.hopeless else 0
    middle = (good + _bad(found, good)) // 2
    return None if middle == good else middle


async def find_blame(runner: Runner, failed: Trajectory, *, samples: int, solved: bool = False) -> Blame:
    """Fork a failed run, `samples` times at each place that is tried, until its first bad step is known.

    The forks are rollouts at the runner's temperature under the run's own condition, stored like any other; where a
    tool does more than read they work on a copy. Raises UsageError for a run that did not fail, that cannot be judged
    or forked, or whose turns cannot be said again here, with the reason.
    """
    _refuse(runner, failed)
    forks: list[Trajectory] = []
    found = blame_of(failed, forks, solved=solved)
    while (place := next_place(found)) is not None:
        made = await forks_at(runner, failed, place, samples)
        if all(fork.outcome is OutcomeLabel.UNKNOWN for fork in made):
            raise UsageError(f"Run {failed.run_id} cannot be blamed: {_ended(made[0])}.")
        forks += made
        found = blame_of(failed, forks, solved=solved)
    return found


def was_solved(store: Store, failed: Trajectory) -> bool:
    """Say whether the store holds a success of the same task by the same model, forks apart."""
    wanted = RunFilter(
        task_id=failed.header.task_id,
        model=failed.header.model_hash,
        project=failed.header.project,
        outcome=OutcomeLabel.SUCCESS,
    )
    headers = (store.trajectory(row.run_id).header for row in store.runs(wanted) if row.prompt == failed.header.prompt)
    return any(header.forked_at is None and not header.demonstration for header in headers)


async def forks_at(runner: Runner, failed: Trajectory, turns: int, samples: int) -> list[Trajectory]:
    """Return at least `samples` forks behind `turns` turns of a run; those that are stored and judged are kept."""
    task = Task.model_validate(failed.header.task) if failed.header.task else _bare(failed)
    forking = replace(runner, settings=_settings(runner, failed, turns))
    place, stored = Fork(failed, turns), _stored(forking, failed, turns)
    missing = [sample for sample in range(samples) if sample not in stored]
    made = await asyncio.gather(*(forking.run(task, sample=sample, fork=place) for sample in missing))
    return [*stored.values(), *(runner.store.trajectory(result.run_id) for result in made)]


def _stored(forking: Runner, failed: Trajectory, turns: int) -> dict[int, Trajectory]:
    store, model_hash, settings = forking.store, forking.model.info.model_hash, forking.settings
    rows = store.runs(RunFilter(fork_of=failed.run_id, model=model_hash, purpose=settings.purpose))
    found = {}
    for fork in (store.trajectory(row.run_id) for row in rows if row.outcome is not OutcomeLabel.UNKNOWN):
        header = fork.header
        if (header.forked_at, header.temperature, header.seed) == (turns, settings.temperature, settings.seed):
            found[header.sample] = fork
    return found


def _settings(runner: Runner, failed: Trajectory, turns: int) -> RunSettings:
    digest = hash_value([failed.run_id, turns]).removeprefix("sha256:")
    return replace(
        runner.settings,
        purpose=Purpose.ROLLOUT,
        split=failed.header.split,
        condition=failed.header.condition,
        # A seed of its own: no fork repeats what its parent's seed has given already.
        seed=int(digest[:_SEED_DIGITS], 16),
    )


def _bare(failed: Trajectory) -> Task:
    return Task(id=failed.run_id, prompt=failed.header.prompt, checker=None)


def _refuse(runner: Runner, failed: Trajectory) -> None:
    if failed.outcome is not OutcomeLabel.FAILURE or failed.end is None:
        raise UsageError(
            f"Run {failed.run_id} is no failure: its outcome is {failed.outcome}.",
            hint="`koboshi traces list --outcome failure` shows those that are.",
        )
    if (failed.header.task or {}).get("checker") is None and not runner.project.checks:
        raise UsageError(
            f"Run {failed.run_id} cannot be blamed: its task has no checker to judge its forks by.",
            hint="Give the task a checker, or the project checks.",
        )


def _ended(fork: Trajectory) -> str:
    end = fork.end
    return "its forks never ended" if end is None else f"its forks ended as {end.reason}: {end.error or 'not judged'}"
