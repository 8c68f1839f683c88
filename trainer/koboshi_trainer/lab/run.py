"""Do what is missing of an experiment: make what its results need, measure, write each result as it comes.

An experiment that was cut off goes on where it stopped, another machine goes on with what was committed, and a finished
one costs a few reads.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from koboshi_runtime.files import locked
from koboshi_runtime.home import Home

from .file import Arm
from .make import Maker
from .measure import measured
from .part import Part, Step, cell_name
from .recipe import Recipe
from .results import FitResult, fit_name, pool_name, write_result
from .screen import LabScreen


@dataclass(frozen=True, slots=True)
class Lab:
    """A recipe with the folder that its results go to."""

    recipe: Recipe
    results: Path

    def missing(self) -> list[Step]:
        """Return what is to be done, in order; results of another version of the file are marked as of this one."""
        return [step for part in self._parts() for step in part.missing()]

    def run(self, home: Home, *, on_step: Callable[[str, float], None] = lambda title, seconds: None) -> int:
        """Do everything that is missing and return how many steps that were.

        Holds the lock under which `home` trains, so that a night and an experiment wait for each other.
        """
        with locked(home.run / "train.lock"):
            parts = [(part, part.missing()) for part in self._parts()]
            screen = LabScreen({step.title: step.expected_s for _, steps in parts for step in steps})
            for part, steps in parts:
                maker = Maker(part.recipe, screen.advance)
                for step in steps:
                    screen.begin(step.title)
                    self._do(step, maker, screen)
                    on_step(step.title, screen.end())
        return sum(len(steps) for _, steps in parts)

    def _parts(self) -> list[Part]:
        place = self.recipe.place
        recipes = (Recipe(replace(place, experiment=experiment)) for experiment in place.experiment.parts())
        return [Part(recipe, self.results) for recipe in recipes]

    def _do(self, step: Step, maker: Maker, screen: LabScreen) -> None:
        match step.kind:
            case "demonstrations":
                assert maker.demonstrations
            case "seeded":
                assert maker.seeded
            case "pool":
                name = pool_name(maker.recipe.place.experiment.pool_seed)
                write_result(self.results, name, maker.pool[1])
            case "fit":
                assert step.arm is not None
                write_result(self.results, fit_name(step.arm.name, step.seed), _fit_result(maker, step.arm, step.seed))
            case "runs":
                assert step.cell is not None
                write_result(self.results, cell_name(step.cell), measured(maker, step.cell, screen.advance))


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
