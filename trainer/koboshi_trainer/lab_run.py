"""Do what is missing of an experiment: find which results lack, make what they need, measure, write each as it comes.

A result whose key is in the results folder is never made again, so an experiment that was cut off goes on where it
stopped, another machine goes on with what was committed, and a finished one costs a few reads. Seeds are the outer
loop: the first seed gives a whole first look before the second begins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from koboshi_runtime.files import locked
from koboshi_runtime.home import Home

from .lab_file import Arm, Decoding, Examination
from .lab_make import Maker
from .lab_measure import Measurement, measured
from .lab_recipe import Recipe
from .lab_results import POOL_NAME, FitResult, fit_name, read_result, runs_name, write_result
from .lab_screen import LabScreen

# What a step takes on two quiet cores, for the first guess: runs a second, tokens trained a second, and the rest of a
# fit (loading, export, guards). The screen corrects them by what it sees.
_RUNS_PER_S = 2.5
_TOKENS_PER_S = 600.0
_TOKENS_A_ROW = 260.0
_AROUND_A_FIT_S = 40.0
_SCORING = 1.4

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
class Lab:
    """A recipe with the folder that its results go to."""

    recipe: Recipe
    results: Path

    def missing(self) -> list[Step]:
        """Return what is to be done, in order; results of another version of the file are marked as of this one."""
        cells = [cell for cell in self._cells() if not self._has(cell)]
        fits = [(arm, seed) for arm, seed in self._fits() if not self._has_fit(arm, seed)]
        return list(self._ordered(cells, fits))

    def run(self, home: Home, *, on_step: Callable[[str, float], None] = lambda title, seconds: None) -> int:
        """Do everything that is missing and return how many steps that were.

        Holds the lock under which `home` trains, so that a night and an experiment wait for each other.
        """
        with locked(home.run / "train.lock"):
            steps = self.missing()
            screen = LabScreen({step.title: step.expected_s for step in steps})
            maker = Maker(self.recipe, screen.advance)
            for step in steps:
                screen.begin(step.title)
                self._do(step, maker, screen)
                on_step(step.title, screen.end())
        return len(steps)

    def _do(self, step: Step, maker: Maker, screen: LabScreen) -> None:
        match step.kind:
            case "demonstrations":
                assert maker.demonstrations
            case "seeded":
                assert maker.seeded
            case "pool":
                write_result(self.results, POOL_NAME, maker.pool[1])
            case "fit":
                assert step.arm is not None
                write_result(self.results, fit_name(step.arm.name, step.seed), _fit_result(maker, step.arm, step.seed))
            case "runs":
                assert step.cell is not None
                write_result(self.results, _cell_name(step.cell), measured(maker, step.cell, screen.advance))

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
        count = len(recipe.solved)
        if seeded or shows:
            yield Step("demonstrations", "play the demonstrations", 10 + count / 30)
        if seeded:
            epochs = experiment.seeded.fit.epochs
            yield Step(
                "seeded", "train the seeded model", _AROUND_A_FIT_S + count * epochs * _TOKENS_A_ROW / _TOKENS_PER_S
            )
        if trains:
            runs = len(recipe.pool_tasks) * experiment.pool.samples
            yield Step("pool", "let the seeded model try the train tasks", 10 + runs / _RUNS_PER_S)

    def _fit_s(self, arm: Arm) -> float:
        settings, pool = self.recipe.fit_of(arm).settings, self.recipe.place.experiment.pool
        rows = len(self.recipe.pool_tasks) * pool.samples / 2 * settings.epochs
        if settings.optimizer_steps:
            rows = settings.optimizer_steps * settings.batch_rows
        tokens = min(rows * _TOKENS_A_ROW, settings.max_tokens or float("inf"))
        return _AROUND_A_FIT_S + tokens / _TOKENS_PER_S

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
                    for seed in self.recipe.seeds_of(arm, decoding):
                        yield Measurement(arm, seed, evaluation, decoding)

    def _ways(self, arm: Arm, evaluation: Examination) -> list[Decoding]:
        wanted = evaluation.decodings or arm.decodings
        return [self.recipe.place.experiment.way(name) for name in arm.decodings if name in wanted]

    def _fits(self) -> Iterator[tuple[Arm, int]]:
        experiment = self.recipe.place.experiment
        return ((arm, seed) for arm in experiment.arm if arm.method for seed in experiment.seeds)

    def _has(self, cell: Measurement) -> bool:
        key = self.recipe.runs_key(cell.arm, cell.seed, cell.evaluation, cell.decoding)
        return self._kept(_cell_name(cell), key)

    def _has_fit(self, arm: Arm, seed: int) -> bool:
        return self._kept(fit_name(arm.name, seed), self.recipe.model_key(arm, seed))

    def _has_pool(self) -> bool:
        return self._kept(POOL_NAME, self.recipe.pool_key)

    def _kept(self, name: str, key: str) -> bool:
        found = read_result(self.results / name)
        if found is None or found.key != key:
            return False
        now = self.recipe.place.experiment.hash
        if found.experiment != now:
            write_result(self.results, name, found.model_copy(update={"experiment": now}))
        return True


def _cell_name(cell: Measurement) -> str:
    return runs_name(cell.arm.name, cell.seed, cell.evaluation.name, cell.decoding.name)


def _fit_result(maker: Maker, arm: Arm, seed: int) -> FitResult:
    made = maker.fitted(arm, seed)
    report = made.fit
    return FitResult(
        key=maker.recipe.model_key(arm, seed),
        experiment=maker.recipe.place.experiment.hash,
        arm=arm.name,
        seed=seed,
        method=str(arm.method),
        model_hash=made.model_hash,
        rows=report.rows,
        label_mix=report.label_mix,
        optimizer_steps=report.optimizer_steps,
        tokens=report.tokens,
        learnt_tokens=report.learnt_tokens,
        seconds=round(report.seconds, 1),
        losses=tuple(round(loss, 4) for loss in report.losses),
        gradient_norm_first=report.gradient_norms[0],
        gradient_norm_last=report.gradient_norms[-1],
        update_norm=report.update_norm,
        guards=made.guards,
        kept_total=made.kept.total if made.kept else None,
        kept_by_layer={layer: round(share, 4) for layer, share in made.kept.by_layer.items()} if made.kept else {},
        settings=report.settings.model_dump(mode="json"),
    )
