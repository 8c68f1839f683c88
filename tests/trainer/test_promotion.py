"""What a verdict does to a candidate and to what is live; no model is run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import PipelinePlace, make_place

from koboshi_runtime.ids import utc_now
from koboshi_runtime.models.manifest import ModelManifest, ModelState, ParityProof
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.statistics import TaskResult
from koboshi_tools import KoboshiError, RefusedError, hash_file
from koboshi_trainer.gate.judge import judge_gate
from koboshi_trainer.gate.values import GateBudget, GateVerdict
from koboshi_trainer.promotion import decide, refuse
from koboshi_trainer.workshop import Workshop

pytestmark = pytest.mark.slow


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    place: PipelinePlace = make_place(tmp_path, write_tiny_model(tmp_path / "base.gguf", "llama"), demonstrations=0)
    opened = place.workshop()
    yield opened
    opened.close()


def _candidate(workshop: Workshop, folder: Path, *, name: str, parity: bool = True) -> ModelEntry:
    path = write_tiny_model(folder / f"{name}.gguf", "llama", seed=len(name))
    base = workshop.registry.current().manifest
    manifest = ModelManifest(
        **{
            **base.model_dump(),
            "model_hash": hash_file(path),
            "name": name,
            "bytes": path.stat().st_size,
            "created_at": utc_now(),
            "parity": ParityProof(passed=parity, report={}),
        }
    )
    return workshop.registry.register(path, manifest)


def _verdict(*, won: bool) -> GateVerdict:
    lost = [TaskResult(str(task), 0, OutcomeLabel.FAILURE, (), 0, 0) for task in range(60)]
    solved = [TaskResult(str(task), 0, OutcomeLabel.SUCCESS, (), 0, 0) for task in range(60)]
    return judge_gate(lost, solved if won else lost, GateBudget(grant_id="g", alpha=0.01))


def _states(workshop: Workshop) -> dict[str, str]:
    """Return every model's state as the registry and the store agree on it."""
    states = {entry.manifest.name: entry.state.value for entry in workshop.registry.list()}
    assert {model.name: model.state for model in workshop.store.models()} == states
    return states


def test_accepted_candidate_goes_live_and_the_current_becomes_previous(workshop: Workshop, tmp_path: Path) -> None:
    current, candidate = workshop.registry.current(), _candidate(workshop, tmp_path, name="better")
    assert decide(workshop, current, candidate, _verdict(won=True))
    assert _states(workshop) == {"tiny": "previous", "better": "current"}
    gate = workshop.registry.current().manifest.gate
    assert gate is not None
    assert (gate.accepted, gate.against) == (True, current.manifest.model_hash)


def test_refused_candidate_is_retired_with_its_verdict(workshop: Workshop, tmp_path: Path) -> None:
    current, candidate = workshop.registry.current(), _candidate(workshop, tmp_path, name="same")
    assert not decide(workshop, current, candidate, _verdict(won=False))
    assert _states(workshop) == {"tiny": "current", "same": "retired"}
    gate = workshop.registry.resolve("same").manifest.gate
    assert gate is not None
    assert GateVerdict.model_validate(gate.verdict) == _verdict(won=False)


def test_verdict_against_a_model_that_is_no_longer_live_promotes_nothing(workshop: Workshop, tmp_path: Path) -> None:
    first = workshop.registry.current()
    overtaken = _candidate(workshop, tmp_path, name="overtaken")
    decide(workshop, first, _candidate(workshop, tmp_path, name="better"), _verdict(won=True))
    with pytest.raises(RefusedError, match="its gate was against"):
        decide(workshop, first, overtaken, _verdict(won=True))
    assert workshop.registry.current().manifest.name == "better"


def test_file_that_failed_parity_does_not_go_live_whatever_the_gate_says(workshop: Workshop, tmp_path: Path) -> None:
    current, candidate = workshop.registry.current(), _candidate(workshop, tmp_path, name="damaged", parity=False)
    with pytest.raises(RefusedError, match="parity failed"):
        decide(workshop, current, candidate, _verdict(won=True))
    refuse(workshop, candidate)
    assert workshop.registry.resolve("damaged").state is ModelState.RETIRED
    assert workshop.registry.current() == current


def test_file_that_was_damaged_after_its_gate_does_not_go_live(workshop: Workshop, tmp_path: Path) -> None:
    current, candidate = workshop.registry.current(), _candidate(workshop, tmp_path, name="better")
    content = bytearray(candidate.path.read_bytes())
    content[-1] ^= 1
    candidate.path.write_bytes(content)
    with pytest.raises(KoboshiError, match="was expected"):
        decide(workshop, current, candidate, _verdict(won=True))
    assert workshop.registry.current() == current
