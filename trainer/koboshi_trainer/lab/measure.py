"""Run a model on the tasks of an evaluation and reduce what came of it to one small result.

The runs go into a trace store of their own, in the folder of the measurement's key: one that was cut off goes on with
the runs that are missing. Where several samples are drawn, every candidate is scored by its own model under both
conditions, and the result holds what each way of choosing would have answered.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_runtime.checkers import CheckSettings
from koboshi_runtime.contrast import CHOOSERS, Candidate, candidate, choose
from koboshi_runtime.model import Model, PromptProfile
from koboshi_runtime.records import OutcomeLabel, Purpose, Split, Trajectory
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.statistics import aggregate, measure
from koboshi_runtime.store import Store
from koboshi_runtime.tasks import Task

from ..auroc import Auroc, Scored, paired_auroc
from ..demo.walk import example_text
from ..rollouts import RolloutProgress, make_missing
from .file import Arm, Decoding, Examination
from .make import Maker
from .results import FAILURE_MARK, SUCCESS_MARK, RunsResult
from .sources import tasks_hash
from .train import Trained

Share = Callable[[float], None]
# Scoring a candidate twice costs about a third of making it.
_RUNNING_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Measurement:
    """Which model is measured on what, and how: one cell of the experiment's table."""

    arm: Arm
    seed: int
    evaluation: Examination
    decoding: Decoding


def measured(maker: Maker, cell: Measurement, tell: Share) -> RunsResult:
    """Return the result of a measurement, made now."""
    recipe, place = maker.recipe, maker.recipe.place
    tasks = recipe.tasks_of(cell.evaluation, cell.decoding)
    key = recipe.runs_key(cell.arm, cell.seed, cell.evaluation, cell.decoding)
    file, profile = _model_of(maker, cell)
    project = cell.evaluation.project or place.experiment.project
    place.project(project).refuse_unrunnable(tasks, CheckSettings())
    store = Store.open(place.folder("runs", key) / "traces.db")

    async def work() -> RunsResult:
        async with place.model(file, profile) as model:
            system = _with_examples(maker, cell.arm, place.project(project).system_prompt)
            settings = _settings(recipe.run_seed(cell.seed, cell.decoding), cell)
            runner = place.runner(project, model, store, settings, system=system)
            return await _measure(runner, tasks, cell, key, tell)

    try:
        result = asyncio.run(work())
    finally:
        store.close()
    return result.model_copy(update={"experiment": place.experiment.hash, "tasks_hash": tasks_hash(tasks)})


def _settings(seed: int, cell: Measurement) -> RunSettings:
    way = cell.decoding
    return RunSettings(
        purpose=Purpose.EVAL,
        split=Split.TEST,
        seed=seed,
        temperature=way.temperature,
        guidance=way.guidance,
        condition=way.condition,
        constrained=way.constrained,
    )


async def _measure(runner: Runner, tasks: Sequence[Task], cell: Measurement, key: str, tell: Share) -> RunsResult:
    samples = cell.decoding.samples
    share = _RUNNING_SHARE if samples > 1 else 1.0

    def told(progress: RolloutProgress) -> None:
        tell(share * progress.done / progress.wanted)

    run_ids = await make_missing(runner, tasks, samples=samples, on_progress=told)
    runs = [runner.store.trajectory(run_id) for run_id in run_ids]
    by_task = [runs[at : at + samples] for at in range(0, len(runs), samples)]
    found = [measure(run) for run in runs]
    whole = aggregate(found)
    chosen: Mapping[str, str] = {}
    auroc: Mapping[str, Auroc] = {}
    if samples > 1:
        scored = await _score(runner.model, by_task, lambda done: tell(share + (1 - share) * done))
        chosen, auroc = _choices(by_task, scored, cell.decoding.weight), _aurocs(by_task, scored, cell.decoding.weight)
    return RunsResult(
        key=key,
        experiment="",
        arm=cell.arm.name,
        seed=cell.seed,
        evaluation=cell.evaluation.name,
        decoding=cell.decoding.name,
        model_hash=runner.model.info.model_hash,
        tasks=len(tasks),
        tasks_hash="",
        samples=samples,
        outcomes="".join(_mark(several[0]) for several in by_task),
        chosen=dict(chosen),
        auroc=dict(auroc),
        calls_begun=sum(one.calls_begun for one in found),
        invalid_calls=sum(one.invalid_calls for one in found),
        mean_steps=whole.mean_steps,
        output_tokens=whole.output_tokens,
        seconds=round(sum(one.seconds for one in found), 1),
    )


async def _score(model: Model, by_task: Sequence[Sequence[Trajectory]], tell: Share) -> list[list[Candidate]]:
    """Return every run as a candidate; runs of one task in which the same was written are scored once."""
    limit = asyncio.Semaphore(model.info.parallel)
    done = 0

    async def of(runs: Sequence[Trajectory]) -> list[Candidate]:
        nonlocal done
        known: dict[tuple[tuple[int, ...], ...], Candidate] = {}
        async with limit:
            for run in runs:
                written = tuple(turn.reply.ids for turn in run.turns)
                if written not in known:
                    known[written] = await candidate(model, run)
        done += 1
        tell(done / len(by_task))
        return [known[tuple(turn.reply.ids for turn in run.turns)] for run in runs]

    return list(await asyncio.gather(*(of(runs) for runs in by_task)))


def _choices(
    by_task: Sequence[Sequence[Trajectory]], scored: Sequence[Sequence[Candidate]], weight: float
) -> dict[str, str]:
    pairs = list(zip(by_task, scored, strict=True))
    found: dict[str, str] = {
        how: "".join(_mark(runs[choose(candidates, how, weight=weight)]) for runs, candidates in pairs)
        for how in CHOOSERS
    }
    any_right = (any(run.outcome is OutcomeLabel.SUCCESS for run in runs) for runs in by_task)
    return found | {"any": "".join(SUCCESS_MARK if right else FAILURE_MARK for right in any_right)}


def _aurocs(
    by_task: Sequence[Sequence[Trajectory]], scored: Sequence[Sequence[Candidate]], weight: float
) -> dict[str, Auroc]:
    """Return how well each score tells finished successes from finished failures of the same task."""
    finished = [
        (str(number), run.outcome is OutcomeLabel.SUCCESS, one)
        for number, (runs, candidates) in enumerate(zip(by_task, scored, strict=True))
        for run, one in zip(runs, candidates, strict=True)
        if one.finished
    ]
    scores: Mapping[str, Callable[[Candidate], float]] = {
        "contrast": lambda one: one.contrast(weight),
        "log-probability": lambda one: one.under_success,
        "shortness": lambda one: -float(one.tokens),
    }
    return {
        name: paired_auroc([Scored(task, success, score(one)) for task, success, one in finished])
        for name, score in scores.items()
    }


def _mark(run: Trajectory) -> str:
    return SUCCESS_MARK if run.outcome is OutcomeLabel.SUCCESS else FAILURE_MARK


def _model_of(maker: Maker, cell: Measurement) -> tuple[Path, PromptProfile]:
    place = maker.recipe.place
    if cell.arm.model == "base":
        return place.base().path, place.base().manifest.profile
    trained: Trained = maker.seeded if cell.arm.model == "seeded" else maker.fitted(cell.arm, cell.seed)
    return trained.file, place.learner_profile()


def _with_examples(maker: Maker, arm: Arm, system: str) -> str | None:
    """Return the system prompt with solved tasks shown in it, or None where none are."""
    if not arm.examples:
        return None
    return "\n\n".join([system, *map(example_text, maker.shown(arm.examples))])
