"""Walk the whole loop on a small project: measure, show, train, prove, let it try, train on what became of it, prove.

Every stage is done once (`demo.stages`), so that a demo that was cut off goes on where it stopped and a finished one
costs a few reads. Nothing is hidden: whatever the gates say goes into the report, and the demo is complete either way.
"""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.models.verbs import add_model, record_models
from koboshi_runtime.prompt import FAILURE
from koboshi_runtime.records import Purpose, Split, Trajectory
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.store import JobStatus
from koboshi_runtime.tasks import Task
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new
from koboshi_tools import Frozen

from ..demonstrate import play
from ..fit_values import FitProgress
from ..methods import Assignment
from ..pipeline import Listener, TrainResult, train
from ..rollouts import RolloutProgress, roll_out
from ..stages import FitPlan
from ..workshop import Workshop
from .place import DemoPlace, open_place
from .plan import DemoPlan, StageName, estimates, plan_hash, trainings
from .screen import Screen
from .stages import Stages
from .watch import WatchedModel, spoken_lines

TEST_SETS = ("test", "test_shapes")


class ModelKept(Frozen):
    """The base model."""

    model_hash: str


class ProjectKept(Frozen):
    """Where the project was made, and how many tasks each file holds."""

    root: str
    tasks: dict[str, int]


class RunsKept(Frozen):
    """Run ids by what the runs are for: a split's file, or a model."""

    run_ids: dict[str, tuple[str, ...]]


class DemoResult(Frozen):
    """Everything that the report is made of; run ids are those of the demo's own store."""

    base: str
    live: str
    untrained: RunsKept
    few_shot: RunsKept
    seeded: RunsKept
    after: RunsKept
    conditions: RunsKept
    rollouts: tuple[str, ...]
    seed_training: TrainResult
    loop_training: TrainResult
    seconds: dict[str, float]


def run_demo(place: DemoPlace) -> DemoResult:
    """Do what is not yet done of a demo, and return all of it.

    Raises KoboshiError if the model cannot be had or a stage cannot be carried out, UsageError if the folder holds
    another demo.
    """
    screen = Screen(estimates(place.plan))
    try:
        name = plan_hash(place.plan, place.pack.name, place.seed)
        return _Walk(place, Stages(place.stages_folder, name, screen), screen).walk()
    finally:
        screen.close()


def demo_at(root: Path, *, pack: str, seed: int, quick: bool) -> DemoPlace:
    """Return the demo in the folder `root`. Raises UsageError for an unknown pack."""
    return open_place(root, DemoPlan.quick() if quick else DemoPlan(), pack, seed)


def example_text(trajectory: Trajectory) -> str:
    """Return a solved run as the few-shot prompt shows it: question, replies with their calls, results."""
    lines = [f"Question: {trajectory.header.prompt}"]
    for turn in trajectory.turns:
        lines.append(turn.reply.text)
        calls = [call for call in trajectory.calls if call.intent.step_index == turn.index]
        lines += [f"Result: {call.result.output}" for call in calls if call.result]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Walk:
    place: DemoPlace
    stages: Stages
    screen: Screen

    def walk(self) -> DemoResult:
        base = self._base()
        live = self.stages.do(StageName.LIVE, RunsKept, lambda: self._live(base))
        untrained = self._measure(StageName.UNTRAINED, base)
        shown = self.stages.do(StageName.DEMONSTRATIONS, RunsKept, lambda: self._demonstrate(base))
        few_shot = self._measure(StageName.FEW_SHOT, base, example_ids=shown.run_ids["train"])
        seed_training = self._train(StageName.SEED_TRAINING)
        rollouts = self.stages.do(StageName.ROLLOUTS, RunsKept, self._roll_out)
        loop_training = self._train(StageName.LOOP_TRAINING)
        seeded, after = (self.place.registry.resolve(made.model_hash) for made in (seed_training, loop_training))
        return DemoResult(
            base=base.manifest.model_hash,
            live=live.run_ids["live"][0],
            untrained=untrained,
            few_shot=few_shot,
            seeded=self._measure(StageName.SEEDED, seeded),
            after=self._measure(StageName.AFTER, after),
            conditions=self.stages.do(StageName.CONDITIONS, RunsKept, lambda: self._conditions(seeded, after)),
            rollouts=rollouts.run_ids["train"],
            seed_training=seed_training,
            loop_training=loop_training,
            seconds=self.stages.seconds(),
        )

    def _base(self) -> ModelEntry:
        kept = self.stages.do(StageName.MODEL, ModelKept, self._add_model)
        self.stages.do(StageName.PROJECT, ProjectKept, self._make_project)
        return self.place.registry.resolve(kept.model_hash)

    def _add_model(self) -> ModelKept:
        entry = add_model(self.place.home, self.place.plan.source, progress=self.screen.line)
        return ModelKept(model_hash=entry.manifest.model_hash)

    def _make_project(self) -> ProjectKept:
        folder = self.place.project_folder
        if not (folder / "koboshi.toml").exists():
            # One that is there was made by a demo that was cut off; a project appears whole or not at all.
            init_project(folder, self.place.pack.name, seed=self.place.seed)
        pin_new(self.place.home, folder)
        tests = folder / "workspace" / "test"
        if tests.is_dir():
            # What a person asks names no task's folder: it is asked of the shop that the test tasks are about.
            shutil.copytree(tests, folder / "workspace", dirs_exist_ok=True)
        return ProjectKept(root=str(folder), tasks=dict(self.place.pack.sizes))

    def _live(self, base: ModelEntry) -> RunsKept:
        (task,) = self.place.tasks("test", 1)

        async def watch(workshop: Workshop) -> str:
            settings = RunSettings(purpose=Purpose.EVAL, split=Split.TEST, seed=self.place.seed)
            async with workshop.model(base) as model:
                for line in spoken_lines("asked", task.prompt):
                    self.screen.line(line)
                result = await workshop.runner(WatchedModel(model, self.screen.line), settings).run(task)
            self.screen.line(f"  ended | {result.outcome.value}: {result.answer or result.reason.value}")
            return result.run_id

        with self.place.workshop() as workshop:
            return RunsKept(run_ids={"live": (asyncio.run(watch(workshop)),)})

    def _measure(self, stage: StageName, entry: ModelEntry, *, example_ids: Sequence[str] = ()) -> RunsKept:
        def make() -> RunsKept:
            tasks = self._test_tasks()
            system = self._with_examples(example_ids) if example_ids else None
            results = self.place.examine(entry, [task for _, task in tasks], self.screen.advance, system=system)
            found: dict[str, tuple[str, ...]] = dict.fromkeys(TEST_SETS, ())
            for (name, _), result in zip(tasks, results, strict=True):
                found[name] += (result.run_id,)
            return RunsKept(run_ids=found)

        return self.stages.do(stage, RunsKept, make)

    def _test_tasks(self) -> list[tuple[str, Task]]:
        sizes = zip(TEST_SETS, (self.place.plan.test_tasks, self.place.plan.shape_tasks), strict=True)
        return [(name, task) for name, size in sizes for task in self.place.tasks(name, size)]

    def _demonstrate(self, base: ModelEntry) -> RunsKept:
        solved = self.place.pack.demonstrations(self.place.plan.demonstrations, self.place.seed)

        async def played(workshop: Workshop) -> list[str]:
            async with workshop.model(base, workshop.learner_profile(base)) as model:
                runner = workshop.runner(model, RunSettings(purpose=Purpose.ROLLOUT, split=Split.TRAIN))
                return await play(runner, solved, on_progress=self.screen.advance)

        with self.place.workshop() as workshop:
            return RunsKept(run_ids={"train": tuple(asyncio.run(played(workshop)))})

    def _roll_out(self) -> RunsKept:
        plan = self.place.plan
        tasks = self.place.tasks("train", plan.rollout_tasks)

        def told(progress: RolloutProgress) -> None:
            self.screen.advance(progress.done, progress.wanted)

        async def rolled(workshop: Workshop) -> list[str]:
            settings = RunSettings(purpose=Purpose.ROLLOUT, split=Split.TRAIN, seed=self.place.seed)
            async with workshop.model(workshop.registry.current()) as model:
                return await roll_out(workshop.runner(model, settings), tasks, plan.tries, on_progress=told)

        with self.place.workshop() as workshop:
            return RunsKept(run_ids={"train": tuple(asyncio.run(rolled(workshop)))})

    def _train(self, stage: StageName) -> TrainResult:
        plan, how = self.place.plan, trainings(self.place.plan)[stage]
        called = f"{self.place.pack.name}-{how.name}"
        assignment = Assignment(weights=plan.weights, seed=self.place.seed)
        fit_plan = FitPlan(how.method, how.fit.model_copy(update={"seed": self.place.seed}), assignment)

        def make() -> TrainResult:
            with self.place.workshop() as workshop:
                return _finished(workshop, called) or asyncio.run(
                    train(
                        workshop,
                        fit_plan,
                        name=called,
                        settings=plan.dataset,
                        most_gate_tasks=how.gate_tasks,
                        listener=self._listener(),
                    )
                )

        result = self.stages.do(stage, TrainResult, make)
        record_models(self.place.home)
        return result

    def _listener(self) -> Listener:
        def on_fit(progress: FitProgress) -> None:
            self.screen.advance(progress.optimizer_step, progress.optimizer_steps)

        def on_stage(stage: str) -> None:
            self.screen.part(stage)

        def on_gate(side: str, done: int, wanted: int) -> None:
            self.screen.advance(done + (wanted if side == "candidate" else 0), 2 * wanted)

        return Listener(on_stage=on_stage, on_fit=on_fit, on_gate=on_gate)

    def _conditions(self, seeded: ModelEntry, after: ModelEntry) -> RunsKept:
        tasks = self.place.tasks("test", self.place.plan.condition_tasks)
        found = {}
        for name, entry in (("seeded", seeded), ("after", after)):
            self.screen.part(name)
            results = self.place.examine(entry, tasks, self.screen.advance, condition=FAILURE)
            found[name] = tuple(result.run_id for result in results)
        return RunsKept(run_ids=found)

    def _with_examples(self, run_ids: Sequence[str]) -> str:
        with self.place.workshop() as workshop:
            shown = [workshop.store.trajectory(run_id) for run_id in run_ids[: self.place.plan.examples]]
            return "\n\n".join([workshop.project.system_prompt, *map(example_text, shown)])


def _finished(workshop: Workshop, name: str) -> TrainResult | None:
    """Return the training that a demo finished before it was cut off, or None."""
    ended = [job for job in workshop.store.jobs("train") if job.status in {JobStatus.DONE, JobStatus.REFUSED}]
    results = [TrainResult.model_validate(job.result) for job in ended]
    return next((result for result in results if result.name == name), None)
