"""What a person sees who runs a prompt: the steps on a terminal, the answer alone in a pipe."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from koboshi_runtime.home import open_home
from koboshi_runtime.models.verbs import AddSettings, add_model

pytestmark = [pytest.mark.slow, pytest.mark.model]


def _read_all(descriptor: int) -> str:
    """Return what a terminal was sent until its other end was closed, which Linux tells by an error."""
    data = b""
    with suppress(OSError):
        while piece := os.read(descriptor, 4096):
            data += piece
    return data.decode()


def test_steps_are_shown_on_a_terminal_and_nowhere_else(smollm2_gguf: Path, tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    add_model(home, str(smollm2_gguf), AddSettings(name="smollm2"))
    worker = {f"KOBOSHI_WORKER__{name}": "1" for name in ("THREADS", "BATCH_THREADS")}
    environment = {**os.environ, **worker, "KOBOSHI_HOME": str(home.root), "XDG_CONFIG_HOME": str(tmp_path)}
    command = [str(Path(sys.executable).parent / "koboshi"), "run", "What is the capital of France?"]
    terminal, end = os.openpty()
    shown = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=end, text=True
    )
    os.close(end)
    told, (answer, _) = _read_all(terminal), shown.communicate()
    os.close(terminal)
    piped = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert shown.returncode == 0
    assert told.startswith("step 0: answers, ")
    assert (piped.stdout, piped.stderr) == (answer, "")
    assert "Paris" in answer
