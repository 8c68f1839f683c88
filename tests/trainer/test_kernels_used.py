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

# Where llama.cpp repacks Q8_0 for AMX the products are its own: the weights are left as they are here.
pytestmark = pytest.mark.skipif(kernels.unfit() is not None, reason=f"kernels: {kernels.unfit()}")

_DECODE = """
import json, sys
from pathlib import Path
from koboshi_runtime.llama import KERNELS, Engine, EngineSettings, start_backend
start_backend()
own, flash = sys.argv[2] == "own", sys.argv[3] == "flash"
settings = EngineSettings(
    context_tokens=64, parallel=4, own_kernels=own, flash_attention=flash, extra_buffers=False
)
engine = Engine(Path(sys.argv[1]), settings)
tokens = [(7 * at) % 50 + 3 for at in range(20)]
logits = [engine.decode(tokens, range(20), [0] * 20, [True] * 20).copy()]
for run in range(1, 4):
    engine.share(0, run, 20)
logits.append(engine.decode([5, 6, 7, 8], [20] * 4, range(4), [True] * 4).copy())
logits.append(engine.decode([9], [21], [0], [True]).copy())
print(json.dumps({"used": KERNELS.used(), "logits": [row.tolist() for part in logits for row in part]}))
"""

_COMPANY = """
import json, sys
from pathlib import Path
import numpy as np
from koboshi_runtime.llama import Engine, EngineSettings, start_backend
start_backend()
engine = Engine(Path(sys.argv[1]), EngineSettings(context_tokens=512, parallel=4, extra_buffers=False))
prompt, reply = [(7 * at * at) % 53 + 3 for at in range(300)], [5, 17, 29, 41]
others = [(11 * at) % 50 + 3 for at in range(200)]

def wanted(tokens, places, runs, own):
    kept = engine.decode(tokens, places, runs, [True] * len(tokens)).copy()
    return [row.tobytes().hex() for row, run in zip(kept, runs) if run == own]

def alone(run, cuts):
    found = []
    for start, end in zip([0, *cuts], [*cuts, 300]):
        found += wanted(prompt[start:end], list(range(start, end)), [run] * (end - start), run)
    for at, token in enumerate(reply):
        found += wanted([token], [300 + at], [run], run)
    engine.forget(run, 0)
    return found

def among():
    found = []
    wanted(others, list(range(200)), [0] * 200, 3)
    found += wanted(others + prompt[:25], list(range(200)) + list(range(25)), [1] * 200 + [3] * 25, 3)
    wanted(others, list(range(200)), [2] * 200, 3)
    found += wanted([8, 9] + prompt[25:], [200, 200] + list(range(25, 300)), [0, 1] + [3] * 275, 3)
    # Its cells are free again, and what is written next lies before what it follows.
    engine.forget(0, 0)
    for at, token in enumerate(reply):
        found += wanted([9, token, 9], [201 + at, 300 + at, 200 + at], [1, 3, 2], 3)
    return found

print(json.dumps([alone(0, []), alone(1, [13]), alone(0, [1, 230]), among()]))
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


def test_a_run_has_the_same_bits_alone_and_among_others(model: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _COMPANY, str(model)], capture_output=True, text=True, check=True)
    alone, in_two, in_three, among = json.loads(done.stdout.splitlines()[-1])
    assert len(alone) == 304
    assert alone == in_two == in_three == among
