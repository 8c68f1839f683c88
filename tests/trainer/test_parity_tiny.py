from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.trainer.conftest import Kit

from koboshi_trainer.adapter import read_adapter
from koboshi_trainer.export import export
from koboshi_trainer.gguf.read import read_gguf
from koboshi_trainer.parity import ExportedFile, parity
from koboshi_trainer.reference import reference_logits
from koboshi_trainer.weights import load_model

_IDS = tuple(int(token) for token in np.random.default_rng(5).integers(3, 320, 60))
_CORPUS = tuple(tuple(map(int, row)) for row in np.random.default_rng(6).integers(3, 320, (8, 60)))

pytestmark = pytest.mark.slow


def _kld(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    p, q = (torch.log_softmax(torch.from_numpy(np.array(logits)).double(), -1) for logits in (reference, found))
    return float((p.exp() * (p - q)).sum(-1).max())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2", "qwen3"])
def test_torch_predicts_what_llama_cpp_does(architecture: str, tied: bool, tmp_path: Path, kit: Kit) -> None:
    path = kit.write_tiny_model(tmp_path / "tiny.gguf", architecture, tied=tied)
    with torch.inference_mode():
        wanted = load_model(path)(torch.tensor([_IDS])).logits[0].numpy()
    with kit.load(path) as loaded:
        assert _kld(wanted, loaded.logits(_IDS)) < 1e-4
    assert wanted.std() > 0.1


def test_frequency_factors_of_a_long_context_llama_are_obeyed(tmp_path: Path, kit: Kit) -> None:
    path = kit.write_tiny_model(tmp_path / "tiny.gguf", "llama", rope_factors=True)
    with torch.inference_mode():
        wanted = load_model(path)(torch.tensor([_IDS])).logits[0].numpy()
    with kit.load(path) as loaded:
        assert _kld(wanted, loaded.logits(_IDS)) < 1e-4


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2", "qwen3"])
def test_every_exported_file_is_the_trained_model(architecture: str, tmp_path: Path, kit: Kit) -> None:
    master = kit.write_tiny_model(tmp_path / "tiny.gguf", architecture)
    model = read_gguf(master)
    adapter = kit.write_random_adapter(tmp_path / "adapter", model, size=0.3)
    manifest = export(master, adapter, tmp_path / "out", quantise=kit.quantise_q8_0, run_id="r")
    f16, q8_0, lora = (tmp_path / "out" / manifest.stage(name).file for name in ("f16", "q8_0", "adapter"))
    with kit.load(f16) as a, kit.load(q8_0) as b, kit.load(master, adapter=lora) as c:
        files = [
            ExportedFile("f16", f16, a.logits),
            ExportedFile("q8_0", q8_0, b.logits),
            ExportedFile("adapter", lora, c.logits),
        ]
        reference = reference_logits(master, adapter)
        report = parity(reference, files, _CORPUS, master=master, adapter=read_adapter(adapter, model))
        assert _kld(reference(_IDS), c.logits(_IDS)) < 1e-3
    with kit.load(master) as base:
        assert _kld(reference(_IDS), base.logits(_IDS)) > 1e-2
    agreement = {file.kind: file.agreement for file in report.files if file.agreement is not None}
    kept = {file.kind: file.kept for file in report.files if file.kept is not None}
    # A random model's first choices are nearly tied, so the shares that a real model must reach say nothing here.
    assert agreement["f16"].kld < 1e-4
    assert agreement["adapter"].kld < 1e-4
    assert agreement["q8_0"].kld < 1e-2
    assert agreement["f16"].clear_top1 == agreement["adapter"].clear_top1 == 1.0
    assert min(kept["f16"].worst, kept["q8_0"].worst) > 0.99
