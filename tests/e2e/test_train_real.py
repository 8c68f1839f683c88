"""A gate between the real model and itself with noise on top: refused, and what is live stays."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.trainer.conftest import write_random_adapter

from koboshi_runtime.config import load_config
from koboshi_runtime.home import open_home
from koboshi_runtime.models.inspect import quantise
from koboshi_runtime.models.manifest import ModelState
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new
from koboshi_trainer.export import export
from koboshi_trainer.gate.run import run_gate
from koboshi_trainer.gguf.read import read_gguf
from koboshi_trainer.parity import ParityReport
from koboshi_trainer.promotion import decide, register_candidate
from koboshi_trainer.stages import MASTER_FILE, master_of
from koboshi_trainer.workshop import Workshop

pytestmark = [pytest.mark.slow, pytest.mark.model]

# Parity has its own tests; here only the gate stands between noise and the user.
_PASSED = ParityReport(
    corpus_hash="sha256:none", sequences=0, tokens=0, zero_update=False, files=(), passed=True, reasons=()
)


def _shorten(path: Path) -> None:
    """Stop runs early: noise never ends its turn, and waiting for it proves nothing."""
    text = path.read_text(encoding="utf-8")
    for old, new in (("max_steps = 6", "max_steps = 3"), ("max_tokens = 400", "max_tokens = 48"), ("= 80", "= 24")):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def test_noise_on_the_real_model_does_not_pass_the_gate(smollm2_gguf: Path, tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    base = add_model(home, str(smollm2_gguf), AddSettings(name="smollm2"))
    project = init_project(tmp_path / "sums", "arithmetic").root
    _shorten(project / "koboshi.toml")
    pin_new(home, project)
    workshop = Workshop.open(home, project, load_config(project, environment={}).settings)
    master_of(base.path, tmp_path)
    master = tmp_path / MASTER_FILE
    adapter = write_random_adapter(tmp_path / "adapter", read_gguf(master), size=0.5)
    export(
        master,
        adapter,
        tmp_path / "export",
        quantise=lambda source, target: quantise(source, target, "q8_0"),
        run_id="noise",
    )
    candidate = register_candidate(
        workshop, base, tmp_path / "export", name="noise", dataset_hash="sha256:none", parity=_PASSED
    )
    verdict = asyncio.run(run_gate(workshop, base, candidate, most_tasks=50))
    assert (verdict.tasks, verdict.missing) == (50, 0)
    assert not decide(workshop, base, candidate, verdict)
    assert verdict.difference is not None
    assert np.isfinite(verdict.p_value)
    assert verdict.p_value > verdict.alpha
    assert workshop.registry.current().manifest.model_hash == base.manifest.model_hash
    assert workshop.registry.resolve("noise").state is ModelState.RETIRED
    workshop.close()
