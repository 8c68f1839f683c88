"""F12: a thousand requests over twenty swaps of the live model, with real weights.

No request fails; each answer is the one that its model, named in its header, gives alone; and when it is over the
server holds as much memory as before, within a tenth.
"""

import asyncio
import random
import re
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
from gguf import GGUFReader
from tests.e2e.serving_process import SMALL, ServingProcess, make_place, serving

from koboshi_runtime.model_manifest import GateProof
from koboshi_runtime.models import AddSettings, add_model
from koboshi_runtime.registry import Registry
from koboshi_runtime.store import RunFilter, Store

pytestmark = [pytest.mark.slow, pytest.mark.model]

REQUESTS = 1000
SWAPS = 20
PROMPTS = tuple(f"Tell me something about {thing}." for thing in ("rain", "bread", "iron", "birds", "ships"))
TOKENS = 6


def disturb(path: Path) -> None:
    """Change the lowest bit of each weight of a third of the model: it loads as before and says other things."""
    reader = GGUFReader(path, "r+")
    for tensor in reader.tensors:
        if re.fullmatch(r"blk\.2\d\.ffn_down\.weight", tensor.name):
            # A block of Q4_1 is two scales of two bytes, then 32 weights of four bits.
            tensor.data.reshape(-1, 20)[:, 4:] ^= 0x11
    reader.data.flush()


def memory(server: ServingProcess) -> int:
    """Return what the server and its workers hold, in bytes."""
    process = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


async def ask(client: Any, prompt: str) -> tuple[str, str, str]:
    raw = await client.chat.completions.with_raw_response.create(
        model="current", messages=[{"role": "user", "content": prompt}], max_tokens=TOKENS
    )
    reply = raw.parse()
    assert reply.system_fingerprint == raw.headers["x-koboshi-model"]
    return raw.headers["x-koboshi-model"], prompt, reply.choices[0].message.content


@pytest.mark.parametrize("manner", ["overlap", "drain"])
def test_a_thousand_requests_over_twenty_swaps(smollm2_gguf: Path, tmp_path: Path, manner: str) -> None:
    home, folder = make_place(tmp_path, smollm2_gguf, f'{SMALL}\n[serve]\nswap = "{manner}"\n')
    registry = Registry(home)
    other = tmp_path / "other.gguf"
    shutil.copy(smollm2_gguf, other)
    disturb(other)
    first = registry.current().manifest.model_hash
    second = add_model(home, str(other), AddSettings(name="other")).manifest.model_hash
    registry.attach(second, gate=GateProof(accepted=True, against=first, verdict={}))
    answers: list[tuple[str, str, str]] = []

    async def client(server: ServingProcess, seed: int) -> None:
        drawn = random.Random(seed)
        async with server.openai_async() as api:
            while len(answers) < REQUESTS:
                answers.append(await ask(api, drawn.choice(PROMPTS)))

    async def swap() -> None:
        for number in range(SWAPS):
            while len(answers) < number * REQUESTS // SWAPS:
                await asyncio.sleep(0.05)
            registry.rollback()

    async def alone(server: ServingProcess, wanted: str) -> dict[tuple[str, str], str]:
        """Wait until `wanted` is live and nothing else is loaded, and return what it says."""
        async with server.openai_async() as api:
            while (await ask(api, PROMPTS[0]))[0] != wanted or len(psutil.Process(server.process.pid).children()) > 1:
                await asyncio.sleep(0.1)
            return {(model, prompt): text for model, prompt, text in [await ask(api, prompt) for prompt in PROMPTS]}

    async def everything(server: ServingProcess) -> dict[tuple[str, str], str]:
        registry.promote(second)
        expected = await alone(server, second)
        registry.rollback()
        expected |= await alone(server, first)
        before = memory(server)
        await asyncio.gather(swap(), *(client(server, seed) for seed in range(8)))
        assert await alone(server, first) == {key: text for key, text in expected.items() if key[0] == first}
        after = memory(server)
        print(f"{manner}: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        assert abs(after - before) <= 0.1 * before
        return expected

    with serving(home, folder) as server:
        expected = asyncio.run(everything(server))
    assert len(answers) >= REQUESTS
    assert {model for model, *_ in answers} == {first, second}
    assert any(expected[first, prompt] != expected[second, prompt] for prompt in PROMPTS)
    assert {(model, prompt, text) for model, prompt, text in answers if expected[model, prompt] != text} == set()
    store = Store.read_only(home.traces)
    assert store.check().ok
    assert all(row.steps == 1 for row in store.runs(RunFilter(limit=None)))
