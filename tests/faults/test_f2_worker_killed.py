"""F2: the model worker dies or talks nonsense in the middle of a reply, and the runtime gets its turn all the same."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from koboshi_runtime.model import GenerateRequest, Piece, PromptProfile, Reply
from koboshi_runtime.workermodel import ModelError, WorkerModel, WorkerSettings

pytestmark = [pytest.mark.slow, pytest.mark.model]

PROFILE = PromptProfile(template="chatml", tool_format="hermes")
SETTINGS = WorkerSettings(context_tokens=256, parallel=2, threads=1, batch_threads=1)
PROMPT = (Piece(text="Once upon a time there was a"),)
LONG = 60


T = TypeVar("T")
Scene = Callable[[WorkerModel, asyncio.Task[Reply]], Coroutine[Any, Any, T]]


class Play(Protocol):
    def __call__(self, scene: Scene[T]) -> T: ...


@pytest.fixture
def under_way(smollm2_gguf: Path) -> Play:
    """Run a scene with a model and a long reply that it has begun to write; close the model afterwards."""

    def play(scene: Scene[T]) -> T:
        async def run() -> T:
            model = await WorkerModel.start(smollm2_gguf, SETTINGS, model_hash="h", name="m", profile=PROFILE)
            try:
                prompt = await model.tokenize(PROMPT)
                request = GenerateRequest(prompt_ids=prompt, max_tokens=LONG)
                task = asyncio.create_task(model.generate(request))
                await _answered(model)
                return await scene(model, task)
            finally:
                await model.close()

        return asyncio.run(asyncio.wait_for(run(), 120))

    return play


async def _answered(model: WorkerModel) -> None:
    """Come back when the worker has answered once more: what was sent before is then under way."""
    await model.tokenize((Piece(text="hello"),))


def test_kill_9_in_the_middle_of_a_reply_is_mended_within_five_seconds(under_way: Play) -> None:
    async def scene(
        model: WorkerModel, task: asyncio.Task[Reply]
    ) -> tuple[float, int | None, int | None, int, Reply, Reply]:
        before = model.process_id
        # A busy machine may delay one of the two; that both are late is ours.
        seconds = [await _seconds_to_mend(model)]
        reply = await task
        prompt = await model.tokenize(PROMPT)
        again = asyncio.create_task(model.generate(GenerateRequest(prompt_ids=prompt, max_tokens=LONG)))
        await _answered(model)
        seconds.append(await _seconds_to_mend(model))
        return min(seconds), before, model.process_id, model.restarts, reply, await again

    seconds, before, after, restarts, reply, again = under_way(scene)
    assert seconds < 5
    assert before != after
    assert restarts == 2
    assert reply.text == again.text
    assert len(reply.ids) > 0


async def _seconds_to_mend(model: WorkerModel) -> float:
    assert model.process_id is not None
    os.kill(model.process_id, signal.SIGKILL)
    started = time.monotonic()
    await _answered(model)
    return time.monotonic() - started


def test_a_worker_that_dies_over_every_try_costs_the_turn_and_not_the_runtime(under_way: Play) -> None:
    async def scene(model: WorkerModel, task: asyncio.Task[Reply]) -> int | None:
        while not task.done():
            if model.process_id is not None:
                os.kill(model.process_id, signal.SIGKILL)
            await asyncio.wait({task}, timeout=0.05)
        with pytest.raises(ModelError):
            await task
        await _answered(model)
        return model.process_id

    assert under_way(scene) is not None


def test_a_frame_that_is_no_message_ends_the_worker_and_nobody_waits_for_ever(under_way: Play) -> None:
    async def scene(model: WorkerModel, task: asyncio.Task[Reply]) -> tuple[int | None, int | None, Reply]:
        before = model.process_id
        assert model._worker is not None
        model._worker.link.reader.feed_data(b"\xff\xff\xff\xff")
        reply = await task
        return before, model.process_id, reply

    before, after, reply = under_way(scene)
    assert before != after
    assert len(reply.ids) > 0
    assert not os.path.exists(f"/proc/{before}")
