"""What the configuration says about training arrives in the trainer, and its defaults are those that were measured."""

from pathlib import Path

import pytest
from tests.trainer.conftest import Kit
from tests.trainer.test_steps import ALL
from tests.trainer.trajectory_makers import trajectory, user_segment

from koboshi_runtime.config_values import TrainSettings
from koboshi_runtime.records import OutcomeLabel, Trajectory
from koboshi_trainer.dataset import build_dataset
from koboshi_trainer.duplicates import Caps
from koboshi_trainer.lab.file import arm_fit, read_experiment
from koboshi_trainer.methods import Method
from koboshi_trainer.stages import FitPlan, fit_dataset
from koboshi_trainer.train_settings import dataset_settings, fit_plan, learning_rate_for

LAB = Path(__file__).parents[2] / "docs" / "lab"


@pytest.mark.parametrize(("file", "arm"), [("shop-late.toml", "late"), ("arithmetic-contrast.toml", "late")])
def test_the_defaults_are_those_of_the_experiments_that_measured_them(file: str, arm: str) -> None:
    experiment = read_experiment(LAB / file)
    fitted = arm_fit(experiment.fit, experiment.arm_named(arm))
    plan, caps = fit_plan(TrainSettings(), weights=135e6), dataset_settings(TrainSettings()).caps
    # How much is computed together changes memory, not what is learnt; both fits took more than the least steps.
    assert plan.settings.model_copy(update={"micro_tokens": 3072, "least_steps": 1}) == fitted.settings
    assert (caps.failures_per_success, caps.sure_share, caps.pairs_first) == (
        fitted.failures_per_success,
        fitted.sure_share,
        fitted.pairs_first,
    )
    assert plan.method is Method.NAT


@pytest.mark.parametrize(("weights", "rate"), [(30e6, 1e-3), (135e6, 1e-3), (1e9, 3.7e-4), (7e9, 1.4e-4)])
def test_larger_models_learn_at_smaller_rates(weights: float, rate: float) -> None:
    assert learning_rate_for(weights) == pytest.approx(rate, rel=0.02)
    assert fit_plan(TrainSettings(), weights=weights).settings.learning_rate == learning_rate_for(weights)


def test_what_is_set_is_taken() -> None:
    given = TrainSettings(
        learning_rate=2e-4, least_steps=9, method="success", classes=("loop",), steps=True, four_bit=True, processes=2
    )
    plan = fit_plan(given, weights=135e6)
    assert (plan.settings.learning_rate, plan.settings.least_steps, plan.settings.contrast) == (2e-4, 9, 0.0)
    assert (plan.settings.four_bit, plan.settings.processes, plan.assignment.steps) == (True, 2, True)
    assert plan.assignment.conditions.classes == ("loop",)
    assert dataset_settings(given).conditions == ("success", "failure", "loop")


def test_without_contrast_there_is_no_time_when_it_begins() -> None:
    settings = fit_plan(TrainSettings(contrast=0.0), weights=135e6).settings
    assert (settings.contrast, settings.contrast_from) == (0.0, 0.0)


def test_successes_at_tasks_that_were_run_once_are_all_kept(tmp_path: Path) -> None:
    once = [trajectory(f"o{n}", f"task {n}") for n in range(20)]
    often = [trajectory(f"s{n}-{k}", f"sure {n}", answer=(60 + k, 90 + n)) for n in range(10) for k in range(2)]
    settings = ALL.model_copy(update={"caps": dataset_settings(TrainSettings()).caps})
    kept = build_dataset([*once, *often], user_segment, tmp_path, settings=settings).manifest
    assert len([run for run in kept.run_ids if run.startswith("o")]) == 20
    assert len([run for run in kept.run_ids if run.startswith("s")]) == 2
    assert settings.caps.identity() != Caps().identity()


@pytest.mark.parametrize("kinds", [1, 2])
def test_runs_of_one_outcome_are_not_contrasted(tmp_path: Path, kit: Kit, kinds: int) -> None:
    def run(number: int) -> Trajectory:
        label = OutcomeLabel.FAILURE if number % kinds else OutcomeLabel.SUCCESS
        return trajectory(f"r{number}", f"task {number}", label=label, answer=(60 + number,))

    dataset = build_dataset([run(number) for number in range(6)], user_segment, tmp_path / "d", settings=ALL)
    settings = fit_plan(TrainSettings(), weights=1e6).settings.model_copy(update={"optimizer_steps": 1, "r": 4})
    master = kit.write_tiny_model(tmp_path / "m.gguf", "llama")
    report = fit_dataset(dataset, master, tmp_path / "out", FitPlan(Method.NAT, settings))
    assert (report.settings.contrast, report.settings.contrast_from) == ((3.0, 0.5) if kinds > 1 else (0.0, 0.0))
