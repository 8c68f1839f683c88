"""llama.cpp computes with koboshi's kernels, and says the same with them as without."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.trainer.conftest import Kit

from koboshi_runtime.worker import kernels

pytestmark = pytest.mark.skipif(kernels.unfit() is not None, reason=f"kernels: {kernels.unfit()}")

_DECODE = """
import json, sys
from pathlib import Path
from koboshi_runtime.llama import KERNELS, Engine, EngineSettings, start_backend
start_backend()
own, flash = sys.argv[2] == "own", sys.argv[3] == "flash"
settings = EngineSettings(context_tokens=64, parallel=4, own_kernels=own, flash_attention=flash)
engine = Engine(Path(sys.argv[1]), settings)
tokens = [(7 * at) % 50 + 3 for at in range(20)]
logits = [engine.decode(tokens, range(20), [0] * 20, [True] * 20).copy()]
for run in range(1, 4):
    engine.share(0, run, 20)
logits.append(engine.decode([5, 6, 7, 8], [20] * 4, range(4), [True] * 4).copy())
logits.append(engine.decode([9], [21], [0], [True]).copy())
print(json.dumps({"used": KERNELS.used(), "logits": [row.tolist() for part in logits for row in part]}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    Kit.quantise_q8_0(Kit.write_tiny_model(folder / "f16.gguf", "llama", head_size=64), folder / "q8_0.gguf")
    return folder / "q8_0.gguf"


def _decoded(model: Path, kind: str, attention: str = "flash", **env: str) -> tuple[list[int], NDArray[Any]]:
    command = [sys.executable, "-c", _DECODE, str(model), kind, attention]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **env})
    found = json.loads(done.stdout.splitlines()[-1])
    return found["used"], np.array(found["logits"])


def test_logits_are_those_without_them_to_rounding(model: Path) -> None:
    used, own = _decoded(model, "own")
    unused, theirs = _decoded(model, "llama.cpp's")
    forgone, bare = _decoded(model, "own", KOBOSHI_NO_KERNELS="1")
    _, plain = _decoded(model, "llama.cpp's", "plain")
    assert unused == forgone == [0, 0]
    assert min(used) > 0
    assert np.array_equal(theirs, bare)
    # Activations are rounded to bytes, and where one falls to the other side every logit moves. llama.cpp's own two
    # ways of attention differ by that already.
    apart = np.abs(theirs - plain).mean()
    assert 0 < np.abs(own - plain).mean() < 1.5 * apart < 0.03 * plain.std()
