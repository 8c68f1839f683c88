"""The whole pipeline on a tiny model: what goes live, what is refused before and by the gate, and what a rerun does."""

import asyncio
import shutil
from pathlib import Path

import pytest
import torch
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import GATE_TASKS, PipelinePlace, make_place

from koboshi_runtime.models.manifest import ModelState
from koboshi_runtime.store import JobStatus
from koboshi_tools import RefusedError
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.gate.ledger import FILE_NAME, Grant, Ledger, Spent
from koboshi_trainer.pipeline import TrainResult, prepare, train
from koboshi_trainer.stages import FitPlan

pytestmark = pytest.mark.slow


def _plan(*, learning_rate: float = 0.01, epochs: float = 6, seed: int = 0) -> FitPlan:
    settings = FitSettings(
        r=8, alpha=16, learning_rate=learning_rate, epochs=epochs, batch_rows=4, dtype="float32", seed=seed
    )
    return FitPlan(settings=settings)


def _train(place: PipelinePlace, plan: FitPlan) -> TrainResult:
    torch.set_num_threads(1)
    workshop = place.workshop()
    try:
        return asyncio.run(train(workshop, plan))
    finally:
        workshop.close()


def _entries(place: PipelinePlace) -> tuple[Grant | Spent, ...]:
    return Ledger(place.home.models / FILE_NAME).entries()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> PipelinePlace:
    """A place before its first training; only to be copied."""
    root = tmp_path_factory.mktemp("begun")
    return make_place(root, write_tiny_model(root / "base.gguf", "llama"))


@pytest.fixture(scope="module")
def proved(begun: PipelinePlace, tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelinePlace, TrainResult]:
    """A place whose first training went live; only to be copied or read."""
    place = _copy(begun, tmp_path_factory.mktemp("proved"))
    return place, _train(place, _plan())


def _copy(place: PipelinePlace, root: Path) -> PipelinePlace:
    shutil.copytree(place.project.parent, root, dirs_exist_ok=True)
    return PipelinePlace(type(place.home)(root / "home"), root / "project")


def test_better_candidate_goes_live_with_its_proofs(proved: tuple[PipelinePlace, TrainResult]) -> None:
    place, result = proved
    current, previous = place.registry.current(), place.registry.previous()
    assert result.promoted
    assert current.manifest.model_hash == result.model_hash
    assert previous is not None
    assert previous.manifest.model_hash == result.against == result.base_hash
    assert current.manifest.parents.dataset == result.dataset_hash
    assert current.manifest.gate is not None
    assert current.manifest.gate.verdict["wins"] == GATE_TASKS
    assert current.manifest.parity is not None
    assert current.manifest.parity.passed


def test_one_gate_spends_one_grant(proved: tuple[PipelinePlace, TrainResult]) -> None:
    grant, spent = _entries(proved[0])
    assert isinstance(grant, Grant)
    assert isinstance(spent, Spent)
    assert (grant.candidate, len(grant.tasks)) == (proved[1].model_hash, GATE_TASKS)
    assert (spent.grant_id, spent.accepted) == (grant.grant_id, True)


def test_store_knows_the_models_and_the_job(proved: tuple[PipelinePlace, TrainResult]) -> None:
    workshop = proved[0].workshop()
    states = {model.model_hash: model.state for model in workshop.store.models()}
    (job,) = workshop.store.jobs("train")
    workshop.close()
    assert states == {proved[1].base_hash: "previous", proved[1].model_hash: "current"}
    assert job.status is JobStatus.DONE
    assert TrainResult.model_validate(job.result) == proved[1]


def test_the_same_training_again_changes_nothing(proved: tuple[PipelinePlace, TrainResult], tmp_path: Path) -> None:
    place = _copy(proved[0], tmp_path)
    pointer = (place.home.models / "current").read_bytes()
    again = _train(place, _plan())
    assert again.model_copy(update={"folder": proved[1].folder}) == proved[1]
    assert (place.home.models / "current").read_bytes() == pointer
    assert len(_entries(place)) == 2


def test_candidate_no_better_than_the_current_is_retired_with_its_verdict(
    proved: tuple[PipelinePlace, TrainResult], tmp_path: Path
) -> None:
    place = _copy(proved[0], tmp_path)
    result = _train(place, _plan(seed=1))
    refused = place.registry.resolve(result.model_hash)
    assert (result.promoted, result.against) == (False, proved[1].model_hash)
    assert place.registry.current().manifest.model_hash == proved[1].model_hash
    assert refused.state is ModelState.RETIRED
    assert refused.manifest.gate is not None
    assert refused.manifest.gate.verdict["reasons"][0]["code"] == "not_better"
    assert refused.manifest.parents.base == proved[1].base_hash


def test_a_model_that_was_rolled_back_is_not_brought_back_by_training(
    proved: tuple[PipelinePlace, TrainResult], tmp_path: Path
) -> None:
    place = _copy(proved[0], tmp_path)
    place.registry.rollback()
    with pytest.raises(RefusedError, match="was live before"):
        _train(place, _plan())
    assert place.registry.current().manifest.model_hash == proved[1].base_hash
    assert len(_entries(place)) == 2


def test_update_too_small_for_its_file_is_refused_before_the_gate(begun: PipelinePlace, tmp_path: Path) -> None:
    place = _copy(begun, tmp_path)
    current = place.registry.current().manifest.model_hash
    result = _train(place, _plan(learning_rate=1e-6, epochs=0.1))
    assert (result.promoted, result.verdict, result.parity.passed) == (False, None, False)
    assert place.registry.resolve(result.model_hash).state is ModelState.RETIRED
    assert place.registry.current().manifest.model_hash == current
    assert not (place.home.models / FILE_NAME).exists()


def test_training_goes_on_from_a_fit(begun: PipelinePlace, tmp_path: Path) -> None:
    place, plan = _copy(begun, tmp_path), _plan(learning_rate=1e-6, epochs=0.1)
    workshop = place.workshop()
    made = asyncio.run(prepare(workshop, plan, exported=False))
    assert not (made.folder / "export").exists()
    result = asyncio.run(train(workshop, plan))
    workshop.close()
    assert (result.folder, result.fit) == (str(made.folder), made.fit)
