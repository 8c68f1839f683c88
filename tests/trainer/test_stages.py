"""Stages on a tiny random model: each leaves a folder, and a second call changes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.trainer.conftest import Kit

from koboshi_policies import Policy, PolicyLayer
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.packs import load_pack
from koboshi_runtime.project import Project
from koboshi_runtime.records import Purpose
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_tools import builtin_tools
from koboshi_trainer.conditions import tuned_profile
from koboshi_trainer.dataset import DatasetSettings
from koboshi_trainer.demonstrate import play
from koboshi_trainer.export import ExportManifest
from koboshi_trainer.fit_values import FitReport, FitSettings
from koboshi_trainer.parity import ParityReport
from koboshi_trainer.parity_run import PARITY_FILE, measure_parity
from koboshi_trainer.rollouts import roll_out
from koboshi_trainer.stages import MASTER_FILE, FitPlan, build, export_adapter, fit_dataset, master_of
from koboshi_trainer.tries import Tries

_BASE = PromptProfile(template="chatml", tool_format="hermes")


def _model(replies: Sequence[str] = ()) -> ScriptedModel:
    model = ScriptedModel(replies)
    model.info = model.info.model_copy(update={"profile": tuned_profile(_BASE)})
    return model


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with six demonstrations and four wrong answers to two train tasks."""
    home = open_home(path=tmp_path / "home")
    pack, store, model = load_pack("arithmetic"), Store.open(home.traces), _model(["-77"] * 4)
    runner = Runner(
        Project(name="sums", root=tmp_path, tools=("calculator",)),
        Policy.load([PolicyLayer("project", pack.folder / "policies")]),
        dict(builtin_tools()),
        model,
        store,
        RunSettings(purpose=Purpose.ROLLOUT, jobs=1),
    )
    asyncio.run(play(runner, pack.demonstrations(6, 1)))
    asyncio.run(roll_out(replace(runner), pack.generate("train", 2, 0), Tries(samples=2, temperature=0.8)))
    store.close()
    return home


def test_build_freezes_demonstrations_under_every_condition(home: Home) -> None:
    dataset = asyncio.run(build(home, _model()))
    examples = (*dataset.train, *dataset.held_out)
    assert dataset.manifest.counts.demonstrations == 6
    assert all(set(example.users) == {"", "success", "failure"} for example in examples)
    assert "other_prompt" not in dataset.manifest.counts.excluded


def test_build_of_the_same_runs_is_the_same_dataset(home: Home) -> None:
    first, again = (asyncio.run(build(home, _model())) for _ in range(2))
    assert again.manifest == first.manifest
    assert [path.name for path in home.datasets.iterdir()] == [first.path.name]


@pytest.mark.slow
def test_demonstrations_become_a_measured_export_that_a_second_call_leaves_alone(
    home: Home, tmp_path: Path, kit: Kit
) -> None:
    base = kit.write_tiny_model(tmp_path / "base.gguf", "llama")
    settings = DatasetSettings(held_out_share=0.3, longest=4096)
    dataset = asyncio.run(build(home, _model(), settings))
    job, master = home.runs / "job", home.models / MASTER_FILE
    master_of(base, home.models)
    plan = FitPlan(settings=FitSettings(optimizer_steps=2, r=4, batch_rows=2, dtype="float32"))

    def stages() -> tuple[FitReport, ExportManifest, ParityReport]:
        report = fit_dataset(dataset, master, job / "fit", plan)
        exported = export_adapter(master, job / "fit", job / "export", run_id="job")
        measured = asyncio.run(
            measure_parity(master, job / "fit", job / "export", dataset.held_out, profile=tuned_profile(_BASE))
        )
        return report, exported, measured

    first = stages()
    written = (job / "export" / PARITY_FILE).stat().st_mtime_ns
    assert stages() == first
    assert (job / "export" / PARITY_FILE).stat().st_mtime_ns == written
    report, _, measured = first
    assert report.optimizer_steps == 2
    assert report.gradient_norms
    assert report.held_out_before.keys() == report.held_out_after.keys() == {"success"}
    assert [file.kind for file in measured.files] == ["f16", "q8_0"]
    agreement = measured.files[0].agreement
    assert agreement
    assert agreement.kld < 1e-3
