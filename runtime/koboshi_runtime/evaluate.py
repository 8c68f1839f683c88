"""Measure a model on a task file: every task once, the results in the fixed shape of `koboshi eval --json`.

`unknown` is not a success, and neither is a run that could not be replayed: the rate and its interval count every task.
The runs are stored with purpose `eval`, so that their prompts are never trained on.
"""

import time
from collections.abc import Callable, Sequence

from koboshi_tools import Frozen

from .records import OutcomeLabel, Purpose, Split
from .runner import RunResult, RunSettings
from .session import Session
from .statistics import Interval, aggregate, measure, wilson_interval
from .tasks import Task


class EvaluatedModel(Frozen):
    """Which model was measured."""

    hash: str
    name: str


class EvaluatedTask(Frozen):
    """What became of one task."""

    task_id: str
    outcome: OutcomeLabel
    answer: str | None
    run_id: str


class Evaluation(Frozen):
    """A measurement; `ci95` is Wilson's interval of the success rate over tasks, rates are shares."""

    model: EvaluatedModel
    tasks: int
    success_rate: float
    ci95: Interval
    invalid_call_rate: float | None
    mean_steps: float | None
    output_tokens: int
    wall_s: float
    results: tuple[EvaluatedTask, ...]


async def evaluate(
    session: Session,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    temperature: float = 0.0,
    guidance: float = 0.0,
    jobs: int | None = None,
    split: Split | None = None,
    allow_commands: bool = False,
    on_result: Callable[[RunResult], None] | None = None,
) -> Evaluation:
    """Run `tasks` and return what was measured.

    Raises UsageError, before the first run, for a task that cannot be run or judged here.
    """
    checks = session.project.check_settings(allow_commands=allow_commands)
    session.project.refuse_unrunnable(tasks, checks)
    settings = RunSettings(
        purpose=Purpose.EVAL,
        split=split,
        seed=seed,
        temperature=temperature,
        guidance=guidance,
        jobs=min(jobs or session.model.info.parallel, session.model.info.parallel),
        check_settings=checks,
    )
    started = time.monotonic()
    results = await session.runner(settings).run_all(tasks, on_result=on_result)
    solved = sum(result.outcome is OutcomeLabel.SUCCESS for result in results) / max(1, len(results))
    found = aggregate([measure(session.store.trajectory(result.run_id)) for result in results])
    return Evaluation(
        model=EvaluatedModel(hash=session.model.info.model_hash, name=session.model.info.name),
        tasks=len(tasks),
        success_rate=solved,
        ci95=wilson_interval(solved, len(results)),
        invalid_call_rate=found.invalid_call_rate,
        mean_steps=found.mean_steps,
        output_tokens=found.output_tokens,
        wall_s=round(time.monotonic() - started, 3),
        results=tuple(
            EvaluatedTask(
                task_id=result.task_id or result.run_id,
                outcome=result.outcome,
                answer=result.answer,
                run_id=result.run_id,
            )
            for result in results
        ),
    )
