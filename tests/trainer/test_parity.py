from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.trainer.conftest import Kit

from koboshi_trainer.adapter import LoraDelta, read_adapter
from koboshi_trainer.corpus import load_prose, make_corpus
from koboshi_trainer.gguf.read import read_gguf
from koboshi_trainer.merge import merge
from koboshi_trainer.parity import ExportedFile, Logits, ParityReport, parity

_CORPUS = tuple(tuple(range(start, start + 40)) for start in range(10))
_TABLE = np.random.default_rng(0).normal(0, 3, (100, 50)).astype(np.float32)


class Weights(TypedDict):
    master: Path
    adapter: dict[str, LoraDelta]


def _reference(ids: Sequence[int]) -> NDArray[np.float32]:
    return _TABLE[list(ids)]


def _with_noise(size: float) -> Logits:
    noise = np.random.default_rng(1).normal(0, size, _TABLE.shape).astype(np.float32)
    return lambda ids: (_TABLE + noise)[list(ids)]


@pytest.fixture
def exported(tmp_path: Path, kit: Kit) -> tuple[Weights, Path]:
    """A master, an update and the merged file that holds all of it."""
    master = kit.write_tiny_model(tmp_path / "tiny.gguf", "llama")
    file = read_gguf(master)
    adapter = read_adapter(kit.write_random_adapter(tmp_path / "adapter", file, size=0.1), file)
    merge(master, adapter, tmp_path / "merged.gguf", keys={})
    return {"master": master, "adapter": adapter}, tmp_path / "merged.gguf"


def test_the_same_predictions_and_the_whole_update_pass(exported: tuple[Weights, Path]) -> None:
    weights, merged = exported
    report = parity(_reference, [ExportedFile("f16", merged, _reference)], _CORPUS, **weights)
    assert report.passed
    assert (report.sequences, report.tokens, report.zero_update) == (10, 400, False)
    agreement = report.files[0].agreement
    assert agreement is not None
    assert agreement.kld == pytest.approx(0, abs=1e-12)


def test_predictions_that_drifted_fail_by_both_numbers(exported: tuple[Weights, Path]) -> None:
    weights, merged = exported
    report = parity(_reference, [ExportedFile("f16", merged, _with_noise(0.3))], _CORPUS, **weights)
    assert not report.passed
    assert any("KL divergence" in reason for reason in report.reasons)
    assert any("first choice" in reason for reason in report.reasons)


def test_the_reference_s_own_hesitation_is_not_held_against_q8_0(exported: tuple[Weights, Path]) -> None:
    weights, merged = exported
    hesitating = _TABLE.copy()
    hesitating[:, :2] = 20.0
    hesitating[:, 1] += 0.01
    tipped = hesitating.copy()
    tipped[:, 0] += 0.02
    files = [ExportedFile("q8_0", merged, lambda ids: tipped[list(ids)])]
    report = parity(lambda ids: hesitating[list(ids)], files, _CORPUS, **weights)
    agreement = report.files[0].agreement
    assert agreement is not None
    assert (agreement.top1, agreement.clear_positions) == (0.0, 0)
    assert agreement.kld < 1e-2


def test_an_update_lost_in_one_tensor_fails_though_the_predictions_are_equal(
    exported: tuple[Weights, Path], tmp_path: Path
) -> None:
    weights, _ = exported
    without = {name: delta for name, delta in weights["adapter"].items() if name != "blk.0.attn_v.weight"}
    merge(weights["master"], without, tmp_path / "part.gguf", keys={})
    report = parity(_reference, [ExportedFile("f16", tmp_path / "part.gguf", _reference)], _CORPUS, **weights)
    assert not report.passed
    assert report.reasons == ("f16: 0.0% of the update of blk.0.attn_v.weight was kept, under 90%",)


def test_queries_whose_rows_were_not_permuted_fail(exported: tuple[Weights, Path], tmp_path: Path) -> None:
    weights, _ = exported
    name = "blk.0.attn_q.weight"
    delta = weights["adapter"][name]
    wrong = weights["adapter"] | {name: LoraDelta(delta.a, np.roll(delta.b, 1, axis=0), delta.scale)}
    merge(weights["master"], wrong, tmp_path / "wrong.gguf", keys={})
    report = parity(_reference, [ExportedFile("f16", tmp_path / "wrong.gguf", _reference)], _CORPUS, **weights)
    kept = report.files[0].kept
    assert kept is not None
    assert kept.worst_tensor == name
    assert not report.passed


def test_a_zero_update_is_held_to_equality(exported: tuple[Weights, Path], kit: Kit, tmp_path: Path) -> None:
    weights, merged = exported
    file = read_gguf(weights["master"])
    zero = read_adapter(kit.write_random_adapter(tmp_path / "zero", file, size=0.0), file)
    own = ExportedFile("f16", weights["master"], _reference)
    equal = parity(_reference, [own], _CORPUS, master=weights["master"], adapter=zero)
    assert (equal.passed, equal.zero_update, equal.files[0].equal) == (True, True, True)
    changed = parity(
        _reference, [ExportedFile("f16", merged, _reference)], _CORPUS, master=weights["master"], adapter=zero
    )
    assert (changed.passed, changed.files[0].equal) == (False, False)


@pytest.mark.parametrize(
    "logits",
    [lambda ids: _reference(ids)[:-1], lambda ids: np.full((len(ids), 50), np.nan, np.float32)],
    ids=["another shape", "not a number"],
)
def test_logits_that_cannot_be_compared_fail_and_the_report_survives_a_file(
    logits: Logits, exported: tuple[Weights, Path]
) -> None:
    weights, merged = exported
    files = [ExportedFile("f16", merged, logits), ExportedFile("q8_0", merged, _reference)]
    report = parity(_reference, files, _CORPUS, **weights)
    assert [file.agreement is None for file in report.files] == [True, False]
    assert not report.passed
    assert ParityReport.model_validate_json(report.model_dump_json()) == report


def test_nothing_to_compare_on_fails(exported: tuple[Weights, Path]) -> None:
    weights, merged = exported
    assert not parity(_reference, [ExportedFile("f16", merged, _reference)], (), **weights).passed
    assert not parity(_reference, [], _CORPUS, **weights).passed


def test_the_corpus_is_half_prose_and_half_trajectories() -> None:
    trajectories = [[7] * 300, [], [8] * 200, [9] * 900, [10] * 900]
    corpus = make_corpus(
        lambda text: [ord(letter) % 100 for letter in text], trajectories, begin_ids=[1], half_tokens=512
    )
    prose, logged = corpus[:3], corpus[3:]
    assert [sequence[0] for sequence in prose] == [1, 1, 1]
    assert sum(len(sequence) - 1 for sequence in prose) == sum(map(len, logged)) == 512
    assert max(map(len, corpus)) <= 256


def test_the_prose_ships_with_the_package() -> None:
    assert 500 < len(load_prose().split()) < 1000
