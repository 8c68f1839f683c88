"""What of an experiment is missing, in the order in which it is to be made, with what each step may take.

A result whose key is in the results folder is never made again. Seeds are the outer loop: the first seed gives a whole
first look before the second begins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from koboshi_runtime.estimate_night import CONTRASTED

from .file import Arm, Decoding, Examination
from .measure import Measurement
from .recipe import Recipe
from .results import fit_name, pool_name, read_result, runs_name, write_result

# What a step takes on two quiet cores, for the first guess: runs a second, tokens trained a second, and the rest of a
# fit (loading, export, guards). The screen corrects them by what it sees.
_RUNS_PER_S = 2.5
# Measured on `shop`: of 600 tasks two runs each of a seeded model left 216 unsolved.
_UNSOLVED = 0.36
_TOKENS_PER_S = 600.0
# Ids of a row with its prefix: 500 on `shop`, 300 on `arithmetic`.
_TOKENS_A_ROW = 400.0
_AROUND_A_FIT_S = 40.0
_SCORING = 1.4
# Caps keep about two rows of each outcome a task.
_ROWS_A_TASK = 4

StepKind = Literal["demonstrations", "seeded", "pool", "fit", "runs"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to be done: `title` tells it apart, `expected_s` is a guess."""

    kind: StepKind
    title: str
    expected_s: float
    arm: Arm | None = None
    seed: int = 0
    cell: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A recipe with the folder that its results go to: an experiment, or one seed's whole chain of it."""

    recipe: Recipe
    results: Path

    def missing(self) -> list[Step]:
        """Return what is to be done, in order; results of another version of the file are marked as of this one."""
        cells = [cell for cell in self._cells() if not self._has(cell)]
        fits = [(arm, seed) for arm, seed in self._fits() if not self._has_fit(arm, seed)]
        return list(self._ordered(cells, fits))

    def _ordered(self, cells: Sequence[Measurement], fits: Sequence[tuple[Arm, int]]) -> Iterator[Step]:
        yield from self._before(cells, fits)
        experiment, left = self.recipe.place.experiment, list(cells)
        for seed in experiment.seeds:
            for arm in experiment.arm:
                if (arm, seed) in fits:
                    yield Step("fit", f"fit {arm.name}, seed {seed}", self._fit_s(arm), arm=arm, seed=seed)
                own = [cell for cell in left if cell.arm == arm and cell.seed == seed]
                yield from (self._runs_step(cell) for cell in own)

    def _before(self, cells: Sequence[Measurement], fits: Sequence[tuple[Arm, int]]) -> Iterator[Step]:
        """Yield the steps that others stand on, where one of these is missing itself."""
        recipe, experiment = self.recipe, self.recipe.place.experiment
        trains = bool(fits) or any(cell.arm.method for cell in cells) or not self._has_pool()
        seeded = trains or any(cell.arm.model == "seeded" for cell in cells)
        shows = any(cell.arm.examples for cell in cells)
        count, of = len(recipe.solved), "" if experiment.pool_seed is None else f", seed {experiment.pool_seed}"
        if seeded or shows:
            yield Step("demonstrations", f"play the demonstrations{of}", 10 + count / 30)
        if seeded:
            fit_s = count * experiment.seeded.fit.epochs * _TOKENS_A_ROW / _TOKENS_PER_S
            yield Step("seeded", f"train the seeded model{of}", _AROUND_A_FIT_S + fit_s)
        if trains:
            runs = len(recipe.pool_tasks) * (experiment.pool.samples + _UNSOLVED * experiment.pool.retries)
            yield Step("pool", f"let the seeded model try the train tasks{of}", 10 + runs / _RUNS_PER_S)

    def _fit_s(self, arm: Arm) -> float:
        settings, pool = self.recipe.fit_of(arm).settings, self.recipe.place.experiment.pool
        rows = len(self.recipe.pool_tasks) * min(pool.samples, _ROWS_A_TASK) / 2 * settings.epochs
        if settings.optimizer_steps:
            rows = settings.optimizer_steps * settings.batch_rows
        tokens = min(rows * _TOKENS_A_ROW, settings.max_tokens or float("inf"))
        return _AROUND_A_FIT_S + tokens / _TOKENS_PER_S * (CONTRASTED if settings.contrast else 1)

    def _runs_step(self, cell: Measurement) -> Step:
        samples = cell.decoding.samples
        runs = len(self.recipe.tasks_of(cell.evaluation, cell.decoding)) * samples
        expected = 8 + runs / _RUNS_PER_S * (_SCORING if samples > 1 else 1)
        title = f"measure {cell.arm.name}, seed {cell.seed}, on {cell.evaluation.name} ({cell.decoding.name})"
        return Step("runs", title, expected, cell=cell)

    def _cells(self) -> Iterator[Measurement]:
        for arm in self.recipe.place.experiment.arm:
            for evaluation in self.recipe.place.experiment.evaluation:
                for decoding in self._ways(arm, evaluation):
                    for seed in self.recipe.place.experiment.seeds_measured(arm, decoding):
                        yield Measurement(arm, seed, evaluation, decoding)

    def _ways(self, arm: Arm, evaluation: Examination) -> list[Decoding]:
        wanted = evaluation.decodings or arm.decodings
        return [self.recipe.place.experiment.way(name) for name in arm.decodings if name in wanted]

    def _fits(self) -> Iterator[tuple[Arm, int]]:
        experiment = self.recipe.place.experiment
        return ((arm, seed) for arm in experiment.arm if arm.method for seed in experiment.seeds)

    def _has(self, cell: Measurement) -> bool:
        key = self.recipe.runs_key(cell.arm, cell.seed, cell.evaluation, cell.decoding)
        return self._kept(cell_name(cell), key)

    def _has_fit(self, arm: Arm, seed: int) -> bool:
        return self._kept(fit_name(arm.name, seed), self.recipe.model_key(arm, seed))

    def _has_pool(self) -> bool:
        return self._kept(pool_name(self.recipe.place.experiment.pool_seed), self.recipe.pool_key)

    def _kept(self, name: str, key: str) -> bool:
        found = read_result(self.results / name)
        if found is None or found.key != key:
            return False
        now = self.recipe.place.experiment.hash
        if found.experiment != now:
            write_result(self.results, name, found.model_copy(update={"experiment": now}))
        return True


def cell_name(cell: Measurement) -> str:
    """Return the file's name of a measurement's result."""
    return runs_name(cell.arm.name, cell.seed, cell.evaluation.name, cell.decoding.name)
