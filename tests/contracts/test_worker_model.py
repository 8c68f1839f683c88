"""What every `Model` promises, asked of the worker with real weights, and what the worker promises beyond it."""

import asyncio
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koboshi_runtime.model import Constraint, FinishReason, GenerateRequest, Piece, PromptProfile, Reply
from koboshi_runtime.workermodel import ModelError, WorkerModel, WorkerSettings
from koboshi_tools import ToolSpec

pytestmark = [pytest.mark.slow, pytest.mark.model]

PROFILE = PromptProfile(template="chatml", tool_format="hermes")
SETTINGS = WorkerSettings(context_tokens=512, parallel=4, threads=1, batch_threads=1)
CALCULATOR = ToolSpec(
    name="calculator",
    parameters={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


@dataclass
class Bench:
    """A worker and the loop that it lives in."""

    runner: asyncio.Runner
    model: WorkerModel

    def generate(self, *requests: GenerateRequest) -> list[Reply]:
        async def together() -> list[Reply]:
            return list(await asyncio.gather(*(self.model.generate(request) for request in requests)))

        return self.runner.run(together())

    def chat(self, text: str) -> tuple[int, ...]:
        pieces = (
            Piece(text="<|im_start|>", markup=True),
            Piece(text=f"user\n{text}"),
            Piece(text="<|im_end|>", markup=True),
            Piece(text="\n"),
            Piece(text="<|im_start|>", markup=True),
            Piece(text="assistant\n"),
        )
        return self.runner.run(self.model.tokenize(pieces))


async def _start(path: Path) -> WorkerModel:
    return await WorkerModel.start(path, SETTINGS, model_hash="sha256:test", name="smollm2", profile=PROFILE)


@pytest.fixture(scope="module")
def bench(smollm2_gguf: Path) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        model = runner.run(_start(smollm2_gguf))
        yield Bench(runner, model)
        runner.run(model.close())


def test_ids_sources_and_log_probabilities_have_equal_length(bench: Bench) -> None:
    (reply,) = bench.generate(GenerateRequest(prompt_ids=bench.chat("Name a colour."), max_tokens=12, temperature=1.0))
    assert 0 < len(reply.ids) <= 12
    assert len(reply.ids) == len(reply.sampled) == len(reply.raw_logprobs) == len(reply.behaviour_logprobs)
    assert all(value <= 1e-5 and math.isfinite(value) for value in reply.raw_logprobs + reply.behaviour_logprobs)


def test_the_stop_token_is_the_last_id_and_no_part_of_the_text(bench: Bench) -> None:
    prompt = bench.chat("Answer with one word: what is the capital of France?")
    (reply,) = bench.generate(GenerateRequest(prompt_ids=prompt, max_tokens=100))
    assert reply.finish is FinishReason.STOP
    assert bench.runner.run(bench.model.detokenize(reply.ids[-1:])) == "<|im_end|>"
    assert "<|im_end|>" not in reply.text


def test_a_reply_without_room_is_empty(bench: Bench) -> None:
    (reply,) = bench.generate(GenerateRequest(prompt_ids=bench.chat("Hi"), max_tokens=0))
    assert (reply.ids, reply.finish) == ((), FinishReason.LENGTH)


def test_the_same_seed_gives_the_same_reply_and_another_seed_another(bench: Bench) -> None:
    prompt = bench.chat("Tell me a story about a fox.")
    requests = [GenerateRequest(prompt_ids=prompt, max_tokens=24, temperature=1.0, seed=seed) for seed in (3, 3, 4)]
    first, again, other = (bench.generate(request)[0] for request in requests)
    assert first.ids == again.ids
    assert first.ids != other.ids


def test_a_greedy_reply_is_the_same_alone_and_among_others(bench: Bench) -> None:
    request = GenerateRequest(prompt_ids=bench.chat("Count from one to ten."), max_tokens=20)
    others = [
        GenerateRequest(prompt_ids=bench.chat(f"Say something about {thing}."), max_tokens=30, temperature=1.0)
        for thing in ("rain", "bread", "iron")
    ]
    (alone,) = bench.generate(request)
    assert bench.generate(others[0], request, *others[1:])[1].ids == alone.ids


def test_scores_are_the_raw_log_probabilities_of_the_reply(bench: Bench) -> None:
    prompt = bench.chat("Why is the sky blue?")
    (reply,) = bench.generate(GenerateRequest(prompt_ids=prompt, max_tokens=20, temperature=1.0, seed=1))
    scores = bench.runner.run(bench.model.score(prompt + reply.ids, len(prompt)))
    # Kernels for one row and for many round activations of a 4-bit file differently, here by up to 0.2 at one id.
    np.testing.assert_allclose(scores, reply.raw_logprobs, atol=0.4)
    assert abs(np.mean(scores) - np.mean(reply.raw_logprobs)) < 0.1


def test_the_same_ids_score_the_same_again(bench: Bench) -> None:
    ids = bench.chat("Why is the sky blue?")
    first, again = (bench.runner.run(bench.model.score(ids, 1)) for _ in range(2))
    assert first == again
    assert len(first) == len(ids) - 1


def test_nothing_to_score_is_answered_and_stalls_nobody(bench: Bench) -> None:
    prompt = bench.chat("Hi")

    async def both() -> tuple[tuple[float, ...], Reply]:
        request = GenerateRequest(prompt_ids=prompt, max_tokens=4)
        return await asyncio.gather(bench.model.score(prompt, len(prompt)), bench.model.generate(request))

    scores, reply = bench.runner.run(asyncio.wait_for(both(), 30))
    assert scores == ()
    assert len(reply.ids) > 0


@pytest.mark.parametrize("prompt_ids", [(), (10**6,), (1,) * 512], ids=["empty", "no such id", "too long"])
def test_a_prompt_that_cannot_be_is_refused_and_the_worker_lives(bench: Bench, prompt_ids: tuple[int, ...]) -> None:
    before = bench.model.process_id
    with pytest.raises(ModelError, match="ids; between|is not in the vocabulary"):
        bench.generate(GenerateRequest(prompt_ids=prompt_ids, max_tokens=4))
    assert bench.model.process_id == before


@pytest.mark.parametrize(
    "parameters",
    [{"type": 7}, {"type": "object", "properties": []}, {"$ref": "#/nowhere"}, {"pattern": "("}, {"enum": []}],
    ids=str,
)
def test_a_malformed_schema_costs_one_request_at_most(bench: Bench, parameters: dict[str, Any]) -> None:
    before = bench.model.process_id
    constraint = Constraint(tool_format="hermes", tools=(ToolSpec(name="odd", parameters=parameters),))
    request = GenerateRequest(prompt_ids=bench.chat("Hi"), max_tokens=4, constraint=constraint)

    async def ask() -> tuple[Reply | BaseException]:
        return await asyncio.gather(bench.model.generate(request), return_exceptions=True)

    (end,) = bench.runner.run(ask())
    assert isinstance(end, ModelError | Reply)
    assert bench.model.process_id == before


def test_a_second_turn_reuses_all_earlier_tokens(bench: Bench) -> None:
    prompt = bench.chat("My name is Ada and I like chess. Please greet me.")
    (first,) = bench.generate(GenerateRequest(prompt_ids=prompt, max_tokens=16))
    longer = prompt + first.ids + bench.chat("What do I like?")
    (second,) = bench.generate(GenerateRequest(prompt_ids=longer, max_tokens=4))
    # The last sampled token was never decoded.
    assert second.reused_tokens >= len(prompt) + len(first.ids) - 1
    assert second.decoded_tokens <= len(longer) - second.reused_tokens + 4


def test_more_requests_than_sequences_are_all_answered(bench: Bench) -> None:
    requests = [
        GenerateRequest(prompt_ids=bench.chat(f"What is {n} plus {n}?"), max_tokens=6) for n in range(3 * 4 + 1)
    ]
    replies = bench.generate(*requests)
    assert all(len(reply.ids) > 0 for reply in replies)
    assert bench.generate(requests[5])[0].ids == replies[5].ids


def test_a_cancelled_request_gives_its_sequence_back(bench: Bench) -> None:
    long = GenerateRequest(prompt_ids=bench.chat("Write a long poem."), max_tokens=400, temperature=1.0)

    async def cancel_all_then_ask() -> Reply:
        tasks = [asyncio.create_task(bench.model.generate(long)) for _ in range(4)]
        await bench.model.tokenize((Piece(text="both frames are on their way"),))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        return await bench.model.generate(GenerateRequest(prompt_ids=long.prompt_ids, max_tokens=2))

    assert len(bench.runner.run(asyncio.wait_for(cancel_all_then_ask(), 60)).ids) == 2


def test_a_constrained_call_is_complete_and_its_forced_tokens_are_marked(bench: Bench) -> None:
    constraint = Constraint(tool_format="hermes", tools=(CALCULATOR,), max_calls=1)
    prompt: tuple[int, ...] = ()
    for sum_ in ("1 + 1", "20 - 3", "6 * 8"):
        shown = f'<tool_call>\n{{"name": "calculator", "arguments": {{"expression": "{sum_}"}}}}\n</tool_call>'
        pieces = (Piece(text=shown), Piece(text="<|im_end|>", markup=True), Piece(text="\n"))
        prompt += bench.chat(f"What is {sum_}?") + bench.runner.run(bench.model.tokenize(pieces))
    prompt += bench.chat("What is 12 * 7?")
    (reply,) = bench.generate(GenerateRequest(prompt_ids=prompt, max_tokens=120, constraint=constraint))
    assert reply.text.rstrip().endswith("</tool_call>")
    assert not all(reply.sampled)


def test_close_ends_requests_under_way_and_starts_no_new_worker(smollm2_gguf: Path) -> None:
    async def close_under_way() -> tuple[object, int | None]:
        model = await _start(smollm2_gguf)
        prompt = await model.tokenize((Piece(text="Once upon a time"),))
        task = asyncio.create_task(model.generate(GenerateRequest(prompt_ids=prompt, max_tokens=400)))
        await model.tokenize((Piece(text="the request is under way"),))
        await model.close()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        return end, model.process_id

    end, process_id = asyncio.run(asyncio.wait_for(close_under_way(), 30))
    assert isinstance(end, ModelError)
    assert "closed" in str(end)
    assert process_id is None


def test_a_new_worker_reads_a_beginning_from_disk_and_writes_the_same(smollm2_gguf: Path, tmp_path: Path) -> None:
    async def ask(folder: Path) -> list[Reply]:
        settings = replace(SETTINGS, prefixes=folder)
        model = await WorkerModel.start(smollm2_gguf, settings, model_hash="sha256:test", name="x", profile=PROFILE)
        prefix = await model.tokenize((Piece(text="Once upon a time there was a fox who liked to count. " * 8),))
        replies = []
        # The first reply brings the beginning into the cache, so that both workers decode alike behind it.
        for asked in ("Zebras", "One day she said:"):
            ids = prefix + await model.tokenize((Piece(text=asked),))
            replies.append(
                await model.generate(GenerateRequest(prompt_ids=ids, max_tokens=12, prefix_tokens=len(prefix)))
            )
        await model.close()
        return replies

    first, again = (asyncio.run(ask(tmp_path / "prefixes")) for _ in range(2))
    assert first[0].reused_tokens == 0
    assert again[0].reused_tokens == first[1].reused_tokens >= 64
    assert (again[1].ids, again[1].raw_logprobs) == (first[1].ids, first[1].raw_logprobs)


def test_a_file_that_does_not_load_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))

    async def load() -> int:
        with pytest.raises(ModelError):
            await _start(broken)
        return len(asyncio.all_tasks())

    before = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(load()) == 1
    assert len(os.listdir("/proc/self/fd")) == before
