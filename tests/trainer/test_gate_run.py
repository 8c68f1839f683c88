"""Gates on a tiny model: noise is refused, one that breaks has spent its alpha, one without tasks spends none."""

import asyncio
from pathlib import Path

import pytest
from tests.trainer.conftest import quantise_q8_0, write_random_adapter, write_tiny_model
from tests.trainer.pipeline_place import GATE_TASKS, PipelinePlace, make_place

from koboshi_runtime.models.manifest import ModelState
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.store import RunFilter
from koboshi_tools import KoboshiError, UsageError
from koboshi_trainer.export import export
from koboshi_trainer.gate.ledger import FILE_NAME, Grant, Ledger, Spent
from koboshi_trainer.gate.run import run_gate
from koboshi_trainer.gate.values import ReasonCode
from koboshi_trainer.gguf.read import read_gguf
from koboshi_trainer.parity import ParityReport
from koboshi_trainer.promotion import decide, register_candidate
from koboshi_trainer.stages import master_of
from koboshi_trainer.workshop import Workshop

_PASSED = ParityReport(
    corpus_hash="sha256:none", sequences=0, tokens=0, zero_update=False, files=(), passed=True, reasons=()
)


@pytest.fixture
def place(tmp_path: Path) -> PipelinePlace:
    return make_place(tmp_path, write_tiny_model(tmp_path / "base.gguf", "llama"), demonstrations=1)


def _noise(workshop: Workshop, folder: Path) -> ModelEntry:
    """Register a candidate whose adapter is noise."""
    base = workshop.registry.current()
    master_of(base.path, folder)
    master = folder / "master.f16.gguf"
    adapter = write_random_adapter(folder / "adapter", read_gguf(master), size=0.3)
    export(master, adapter, folder / "export", quantise=quantise_q8_0, run_id="noise")
    return register_candidate(
        workshop, base, folder / "export", name="noise", dataset_hash="sha256:none", parity=_PASSED
    )


@pytest.mark.slow
def test_noise_is_refused_and_the_current_model_stays(place: PipelinePlace, tmp_path: Path) -> None:
    workshop = place.workshop()
    current, candidate = workshop.registry.current(), _noise(workshop, tmp_path / "noise")
    pointer = (place.home.models / "current").read_bytes()
    told: list[tuple[str, int, int]] = []
    verdict = asyncio.run(
        run_gate(workshop, current, candidate, on_run=lambda side, done, wanted: told.append((side, done, wanted)))
    )
    assert (place.home.models / "current").read_bytes() == pointer
    assert not decide(workshop, current, candidate, verdict)
    assert ReasonCode.NOT_BETTER in {reason.code for reason in verdict.reasons}
    assert workshop.registry.current() == current
    assert workshop.registry.resolve("noise").state is ModelState.RETIRED
    assert (told[0], told[-1]) == (("current", 1, GATE_TASKS), ("candidate", GATE_TASKS, GATE_TASKS))
    runs = workshop.store.runs(RunFilter(purpose=Purpose.GATE, limit=None))
    assert len(runs) == 2 * GATE_TASKS
    assert {workshop.store.trajectory(run.run_id).header.split for run in runs[:3]} == {Split.GATE}
    workshop.close()


@pytest.mark.slow
def test_gate_that_breaks_has_spent_its_alpha(place: PipelinePlace, tmp_path: Path) -> None:
    workshop = place.workshop()
    current, candidate = workshop.registry.current(), _noise(workshop, tmp_path / "noise")
    candidate.path.write_bytes(b"not a model")
    with pytest.raises(KoboshiError):
        asyncio.run(run_gate(workshop, current, candidate, most_tasks=1))
    workshop.close()
    assert [type(entry) for entry in Ledger(place.home.models / FILE_NAME).entries()] == [Grant]


@pytest.mark.slow
def test_gate_that_was_cut_off_goes_on_with_its_grant_and_the_runs_it_has(place: PipelinePlace, tmp_path: Path) -> None:
    workshop = place.workshop()
    current, candidate = workshop.registry.current(), _noise(workshop, tmp_path / "noise")
    whole = candidate.path.read_bytes()
    candidate.path.write_bytes(b"not a model")
    with pytest.raises(KoboshiError):
        asyncio.run(run_gate(workshop, current, candidate, most_tasks=3))
    candidate.path.write_bytes(whole)
    told: list[tuple[str, int, int]] = []
    verdict = asyncio.run(run_gate(workshop, current, candidate, on_run=lambda *seen: told.append(seen)))
    entries = Ledger(place.home.models / FILE_NAME).entries()
    assert [type(entry) for entry in entries] == [Grant, Spent]
    assert verdict.grant_id == entries[0].grant_id
    assert verdict.tasks == 3
    assert told == [("candidate", 1, 3), ("candidate", 2, 3), ("candidate", 3, 3)]
    assert len(workshop.store.runs(RunFilter(purpose=Purpose.GATE, limit=None))) == 6
    workshop.close()


@pytest.mark.slow
def test_project_without_gate_tasks_spends_nothing(place: PipelinePlace) -> None:
    (place.project / "tasks" / "gate.jsonl").unlink()
    workshop = place.workshop()
    current = workshop.registry.current()
    with pytest.raises(UsageError, match="no gate tasks"):
        asyncio.run(run_gate(workshop, current, current))
    workshop.close()
    assert not (place.home.models / FILE_NAME).exists()
