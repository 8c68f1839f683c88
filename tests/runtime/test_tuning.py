"""Which settings a model is loaded with, and which of the measured ones are kept."""

import json
from pathlib import Path

import pytest

from koboshi_runtime.config_values import Settings, TrainSettings
from koboshi_runtime.estimate import needs, serving_bytes, training_bytes
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.models.manifest import ModelManifest, ModelState
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.tuning import Trial, Tuned, _write, candidates, choose, worker_settings
from koboshi_runtime.tuning import _key as key_of
from koboshi_runtime.worker.facts import Agreement, GgufFacts, Pace
from koboshi_runtime.workermodel import WorkerSettings
from koboshi_tools import KoboshiError

TUNED = Tuned(threads=7, batch_threads=7, flash_attention=False, cell_type="bf16")
FACTS = GgufFacts(
    architecture="llama",
    name="tiny",
    context_tokens=8192,
    vocab_size=49152,
    chat_template=None,
    file_type=7,
    tokenizer_pre=None,
    special=(),
    block_count=30,
    embedding_length=576,
    kv_width=192,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


@pytest.fixture
def entry(tmp_path: Path) -> ModelEntry:
    manifest = ModelManifest(
        model_hash="sha256:" + "0" * 64,
        name="tiny",
        architecture="llama",
        quantization="Q8_0",
        bytes=1,
        context_tokens=8,
        source="test",
        created_at="2026-01-01T00:00:00Z",
        profile=PromptProfile(template="chatml", tool_format="hermes"),
    )
    return ModelEntry(manifest, ModelState.CURRENT, tmp_path / "model.gguf")


def trial(many_ms: float, top1: float | None = None, **tuned: object) -> Trial:
    agreement = None if top1 is None else Agreement(tokens=100, top1=top1, divergence=0.0)
    pace = Pace(one_ms=many_ms / 4, many_ms=many_ms, parallel=4)
    return Trial(tuned=TUNED.model_copy(update=tuned), pace=pace, agreement=agreement)


def test_without_a_measurement_the_defaults_hold(home: Home, entry: ModelEntry) -> None:
    assert worker_settings(home, Settings(), entry).flash_attention is True


def test_what_was_measured_here_is_used(home: Home, entry: ModelEntry) -> None:
    _write(home, {key_of(entry): TUNED})
    found = worker_settings(home, Settings(), entry)
    assert (found.threads, found.flash_attention, found.cell_type) == (7, False, "bf16")


def test_what_somebody_configured_is_never_overridden(home: Home, entry: ModelEntry) -> None:
    _write(home, {key_of(entry): TUNED})
    settings = Settings.model_validate({"worker": {"threads": 3}})
    found = worker_settings(home, settings, entry)
    assert (found.threads, found.batch_threads) == (3, 7)


def test_a_measurement_of_another_model_says_nothing(home: Home, entry: ModelEntry) -> None:
    _write(home, {"sha256:other": TUNED})
    assert worker_settings(home, Settings(), entry).cell_type == "f16"


def test_a_broken_file_says_how_to_mend_it(home: Home, entry: ModelEntry) -> None:
    (home.models / "tuned.json").write_text(json.dumps({"key": {"threads": "many"}}), encoding="utf-8")
    with pytest.raises(KoboshiError, match="tuned.json is not readable") as raised:
        worker_settings(home, Settings(), entry)
    assert "doctor --tune" in (raised.value.hint or "")


def test_the_fastest_that_agrees_is_kept() -> None:
    fast_and_wrong, good, slow = trial(10, 0.80), trial(20, 0.975), trial(30, 0.98)
    assert choose([fast_and_wrong, good, slow]) == good


def test_without_agreement_the_fastest_is_kept() -> None:
    assert choose([trial(10), trial(20)]) == trial(10)


def test_one_processor_is_tried_once() -> None:
    assert {tuned.threads for tuned in candidates(1)} == {1}
    assert {tuned.threads for tuned in candidates(8)} == {8, 4}


def test_serving_is_weights_cache_and_logits() -> None:
    settings = WorkerSettings(context_tokens=1000, parallel=2, batch_tokens=100)
    cache = 2 * 30 * 192 * 2 * 2000
    assert serving_bytes(FACTS, 1_000_000, settings) == 1_000_000 + cache + 4 * 100 * 49152


def test_what_a_fit_holds_follows_its_settings() -> None:
    def held(**settings: object) -> float:
        return training_bytes(FACTS, 135e6, TrainSettings.model_validate(settings))

    assert held() == pytest.approx(2.27e9, rel=0.01)
    assert held(micro_tokens=3072) - held() == pytest.approx(1536 * 0.65e6)
    assert held(checkpointing=True) == pytest.approx(held() - 0.9 * 1536 * 0.65e6)
    body = 135e6 - FACTS.vocab_size * FACTS.embedding_length
    assert held() - held(four_bit=True) == pytest.approx(body * (2 - 4.5 / 8))
    assert held(processes=2) == 2 * held()


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    vast = WorkerSettings(context_tokens=1_000_000, parallel=256)
    serving, night, disk = needs(FACTS, 145_000_000, vast, TrainSettings(), tmp_path)
    assert not serving.fits
    assert night.needed_gb > 2
    assert disk.needed_gb == pytest.approx(0.75, abs=0.01)
