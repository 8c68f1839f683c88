"""A chat through a server, while another model goes live between two questions."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.serving_process import PROGRAM, ServingProcess, environment, serving
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import PipelinePlace, make_place

from koboshi_runtime.models.manifest import GateProof
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.store import Store

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat that runs, one line in and one object out."""

    process: "subprocess.Popen[str]"

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def end(self) -> str:
        """End the input, and return what was said on stderr."""
        return self.process.communicate(timeout=60)[1]


@contextmanager
def chatting(server: ServingProcess, *arguments: str) -> Iterator[Chat]:
    command = [PROGRAM, "-C", str(server.folder), "chat", "--json", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment(server.home), stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
    )
    try:
        yield Chat(process)
    finally:
        process.kill()
        process.communicate()


def swap(server: ServingProcess) -> None:
    """Let the other model go live, and wait until the server has it."""
    assert server.koboshi("models", "promote", "other").returncode == 0
    ends_at = time.monotonic() + 60
    while "other" not in {model.id for model in server.openai().models.list()}:
        assert time.monotonic() < ends_at
        time.sleep(0.1)


@pytest.fixture
def place(tmp_path: Path) -> PipelinePlace:
    found = make_place(tmp_path, write_tiny_model(tmp_path / "base.gguf", "llama"))
    second = write_tiny_model(tmp_path / "other.gguf", "llama", seed=1)
    add_model(found.home, str(second), AddSettings(name="other", template="mistral"))
    registry = Registry(found.home)
    against = registry.current().manifest.model_hash
    other = registry.resolve("other").manifest.model_hash
    registry.attach(other, gate=GateProof(accepted=True, against=against, verdict={}))
    return found


def test_the_chat_goes_on_with_the_model_that_went_live(place: PipelinePlace) -> None:
    with serving(place.home, place.project) as server, chatting(server) as chat:
        first = chat.ask("Say one.")
        swap(server)
        second = chat.ask("Say two.")
        assert "other went live meanwhile" in chat.end()
    store = Store.read_only(place.home.traces)
    runs = [store.trajectory(each["run_id"]) for each in (first, second)]
    assert [run.header.model_hash for run in runs] == [
        place.registry.resolve(name).manifest.model_hash for name in ("tiny", "other")
    ]
    assert runs[1].header.parent_run_id == runs[0].run_id
    assert "Say one." in runs[1].turns[0].segments[0].text


def test_a_chat_with_a_model_that_was_named_ends_when_another_is_live(place: PipelinePlace) -> None:
    with serving(place.home, place.project) as server, chatting(server, "--model", "tiny") as chat:
        chat.ask("Say one.")
        swap(server)
        assert chat.process.stdin is not None
        chat.process.stdin.write("Say two.\n")
        assert "the server's model is other by now, not tiny" in chat.end()
    assert chat.process.returncode == 1
