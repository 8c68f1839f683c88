"""Make what an experiment measures: the seeded model, the pool, and the model of each arm and seed.

Whatever lies whole in the folder of its key is read, the rest is made; a fit that was cut off goes on from its
checkpoint, rollouts from the last stored run. Everything is trained from an F16 file; the quantised file is what is
measured, because it is what people run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from math import ceil
from pathlib import Path

from koboshi_runtime.files import replace_file
from koboshi_runtime.model import Model
from koboshi_runtime.records import OutcomeLabel, Purpose, Split, Trajectory
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.store import Store

from ..conditions import user_segments
from ..dataset import Dataset, DatasetSettings, build_dataset, load_dataset
from ..demonstrate import play
from ..duplicates import Caps, keep, order_key
from ..fit_values import FitSettings
from ..methods import Assignment, Conditions, Method, Weights, assign, loss_of
from ..rollouts import RolloutProgress, roll_out
from ..rows import Example, TokenRow
from ..schedule import plan_fit
from .file import Arm, ArmFit
from .recipe import Recipe
from .results import PoolResult
from .train import Trained, train_model

Share = Callable[[float], None]
Make = Callable[[Runner], Awaitable[Sequence[str]]]
_DATASET_FILE, _POOL_FILE = "dataset.txt", "pool.json"
_EVERYTHING = DatasetSettings(caps=Caps(failures_per_success=None), held_out_share=0.0)


class Maker:
    """Makes the steps of one recipe, each once; `tell` is told the share that is done of the step at work."""

    def __init__(self, recipe: Recipe, tell: Share) -> None:
        self.recipe, self._tell = recipe, tell
        self._place = recipe.place

    @cached_property
    def demonstrations(self) -> Dataset:
        """The solved tasks, played through the graph in the base model's ids."""
        folder = self._place.folder("demonstrations", self.recipe.seeded_key)
        settings = _EVERYTHING.model_copy(update={"conditions": self.recipe.dataset_settings.conditions})
        run = RunSettings(purpose=Purpose.ROLLOUT, split=Split.TRAIN)

        async def played(runner: Runner) -> Sequence[str]:
            return await play(runner, self.recipe.solved, on_progress=lambda done, wanted: self._tell(done / wanted))

        return self._dataset(folder, folder, self._place.base().path, run, played, settings)

    @cached_property
    def seeded(self) -> Trained:
        """The base, trained once on the demonstrations."""
        folder = self._place.folder("seeded", self.recipe.seeded_key)
        if (found := Trained.read(folder)) is not None:
            return found
        rows = assign(self.demonstrations.train, Method.SUCCESS)
        return train_model(self._place.master(), rows, (), self._place.experiment.seeded.fit, folder, tell=self._tell)

    @cached_property
    def pool(self) -> tuple[Dataset, PoolResult]:
        """The seeded model's own runs, frozen, and how they went."""
        wanted = self._place.experiment.pool
        runs = self._place.folder("rollouts", self.recipe.rollouts_key)
        folder = self._place.folder("pool", self.recipe.pool_key)

        async def rolled(runner: Runner) -> Sequence[str]:
            run_ids = await roll_out(
                runner,
                self.recipe.pool_tasks,
                wanted.tries,
                on_progress=lambda told: self._tell(_share(told)),
            )
            counted = self._counted([runner.store.trajectory(run_id) for run_id in run_ids])
            replace_file(folder / _POOL_FILE, counted.model_dump_json().encode())
            return run_ids

        run = RunSettings(purpose=Purpose.ROLLOUT, seed=wanted.seed)
        dataset = self._dataset(runs, folder, self.seeded.file, run, rolled, self.recipe.dataset_settings)
        counted = PoolResult.model_validate_json((folder / _POOL_FILE).read_bytes())
        experiment = self._place.experiment
        named = {"experiment": experiment.hash, "seed": experiment.pool_seed}
        return dataset, counted.model_copy(update=_counts(dataset) | named)

    def fitted(self, arm: Arm, seed: int) -> Trained:
        """Return the model of a trained arm under one seed."""
        folder = self._place.folder("fit", self.recipe.model_key(arm, seed))
        if (found := Trained.read(folder)) is not None:
            return found
        start = self.seeded.f16 if self.recipe.fit_of(arm).start == "seeded" else self._place.master()
        rows, settings = self.rows_of(arm, seed), self.fit_settings(arm, seed)
        made = train_model(start, rows, self.pool[0].held_out, settings, folder, tell=self._tell)
        # Twice the size of all else together, never a parent here, and made again in seconds.
        made.f16.unlink()
        return made

    def rows_of(self, arm: Arm, seed: int) -> list[TokenRow]:
        """Return what an arm is trained on: the pool under its method, and the replayed demonstrations."""
        own, (dataset, _) = self.recipe.fit_of(arm), self.pool
        most = len(dataset.train) + 1
        caps = Caps(
            successes_per_task=most,
            failures_per_task=most,
            near_duplicate=1.0,
            failures_per_success=own.failures_per_success,
            sure_share=own.sure_share,
            pairs_first=own.pairs_first,
        )
        usable = [example for example in dataset.train if own.forked or not example.forked]
        kept = keep(usable, caps, seed=dataset.manifest.settings.seed).examples
        assert arm.method is not None, f"arm {arm.name} is not trained"
        assignment = Assignment(
            weights=Weights(
                failure=own.failure_weight,
                demonstration=own.demonstration_weight,
                half_life_days=own.half_life_days,
            ),
            conditions=Conditions(classes=own.classes, fewest=own.fewest),
            twins=loss_of(arm.method, own.settings).contrast > 0,
            steps=own.steps,
            seed=seed,
        )
        return assign([*kept, *self._replayed(own, len(kept), seed)], arm.method, assignment)

    def fit_settings(self, arm: Arm, seed: int) -> FitSettings:
        """Return how an arm is fitted under a seed, its steps or epochs those of another arm where it says so."""
        assert arm.method is not None, f"arm {arm.name} is not trained"
        settings = loss_of(arm.method, self.recipe.fit_of(arm).settings).model_copy(update={"seed": seed})
        if arm.like is None:
            return settings
        like, first = self._place.experiment.arm_named(arm.like), self._place.experiment.seeds[0]
        rows, longer = self.rows_of(like, first), self.fit_settings(like, first)
        steps = len(plan_fit(rows, longer))
        if arm.epochs_of:
            epochs = steps / ceil(len(rows) / longer.batch_rows)
            steps = max(1, round(epochs * ceil(len(self.rows_of(arm, seed)) / settings.batch_rows)))
        return settings.model_copy(update={"optimizer_steps": steps, "max_tokens": None})

    def shown(self, count: int) -> list[Trajectory]:
        """Return the runs of the first `count` demonstrations, for a prompt that shows them."""
        assert self.demonstrations.train, "there are no demonstrations"
        # Opened to write: a file of an older koboshi is migrated, for which reading alone would be refused.
        store = Store.open(self._place.folder("demonstrations", self.recipe.seeded_key) / "traces.db")
        try:
            found = {run.header.prompt: run for run in store.iter_trajectories((Purpose.ROLLOUT,), (Split.TRAIN,))}
        finally:
            store.close()
        return [found[one.task.prompt] for one in self.recipe.solved[:count]]

    def _replayed(self, own: ArmFit, rows: int, seed: int) -> list[Example]:
        if not own.replay:
            return []
        ordered = sorted(self.demonstrations.train, key=lambda example: order_key(seed, example))
        return ordered[: round(own.replay * rows)]

    def _dataset(
        self, runs: Path, folder: Path, model: Path, run: RunSettings, make: Make, settings: DatasetSettings
    ) -> Dataset:
        """Return the dataset that a folder names, or freeze the runs that `make` brings."""
        named = folder / _DATASET_FILE
        if named.exists():
            return load_dataset(folder / named.read_text(encoding="utf-8"))

        async def frozen(store: Store) -> Dataset:
            async with self._place.model(model, self._place.learner_profile()) as learner:
                runner = self._place.runner(self._place.experiment.project, learner, store, run)
                found = [store.trajectory(run_id) for run_id in await make(runner)]
                return await self._freeze(found, learner, folder, settings)

        store = Store.open(runs / "traces.db")
        try:
            dataset = asyncio.run(frozen(store))
        finally:
            store.close()
        replace_file(named, dataset.path.name.encode())
        return dataset

    async def _freeze(
        self, found: Sequence[Trajectory], model: Model, folder: Path, settings: DatasetSettings
    ) -> Dataset:
        segment = await user_segments(found, model, model.info.profile, settings.conditions)
        return build_dataset(found, segment, folder, settings=settings, evaluated=self.recipe.evaluated)

    def _counted(self, runs: Sequence[Trajectory]) -> PoolResult:
        solved = [run for run in runs if run.outcome is OutcomeLabel.SUCCESS]
        return PoolResult(
            key=self.recipe.pool_key,
            experiment="",
            runs=len(runs),
            successes=len(solved),
            tasks=len(self.recipe.pool_tasks),
            solved_tasks=len({run.header.prompt for run in solved}),
            train=0,
            held_out=0,
            labels={},
            failure_classes={},
            excluded={},
            demonstrations=len(self.recipe.solved),
        )


def _counts(dataset: Dataset) -> dict[str, object]:
    counts = dataset.manifest.counts
    return {name: getattr(counts, name) for name in ("train", "held_out", "labels", "failure_classes", "excluded")}


def _share(told: RolloutProgress) -> float:
    return told.done / told.wanted
