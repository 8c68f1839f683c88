"""F12: a thousand requests over twenty swaps of the live model, with real weights.

No request fails; each answer has the log-probabilities that its model, named in its header, gives it, and not those of
the other; and when it is over the server holds as much memory as before, within a tenth.

Texts are not compared: where two tokens are nearly as likely, one model says one alone and the other among others.
"""

import asyncio
import random
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gguf import GGUFReader
from tests.e2e.serving_process import SMALL, ServingProcess, make_place, serving

from koboshi_runtime.models.manifest import GateProof
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.records import Trajectory
from koboshi_runtime.store import RunFilter, Store
from koboshi_runtime.workermodel import WorkerModel, WorkerSettings

pytestmark = [pytest.mark.slow, pytest.mark.model]

REQUESTS = 1000
SWAPS = 20
PROMPTS = tuple(f"Tell me something about {thing}." for thing in ("rain", "bread", "iron", "birds", "ships"))
TOKENS = 6
SAMPLED = 8
"""One reply of so many is looked at again."""

FAR = 0.25
"""Mean distance of log-probabilities: 4-bit kernels for one row and for many differ by less, the two models by more."""


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


def swaps(server: ServingProcess) -> int:
    """Return how many changes of the model the server has made."""
    granted = {"authorization": f"Bearer {server.token()}"}
    page = httpx.get(server.url.removesuffix("/v1") + "/metrics", headers=granted).text
    found = re.search(r'koboshi_swaps_total\{result="done"\} (\d+)', page)
    assert 'result="failed"' not in page
    return int(found[1]) if found else 0


async def ask(client: Any, prompt: str) -> str:
    """Return which model answered."""
    raw = await client.chat.completions.with_raw_response.create(
        model="current", messages=[{"role": "user", "content": prompt}], max_tokens=TOKENS
    )
    reply = raw.parse()
    assert reply.choices[0].message.content
    assert reply.system_fingerprint == raw.headers["x-koboshi-model"]
    return str(reply.system_fingerprint)


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
    answers: list[str] = []

    async def client(server: ServingProcess, seed: int) -> None:
        drawn = random.Random(seed)
        async with server.openai_async() as api:
            while len(answers) < REQUESTS:
                answers.append(await ask(api, drawn.choice(PROMPTS)))

    async def swap(server: ServingProcess) -> None:
        begun = swaps(server)
        for number in range(SWAPS):
            # One after the other: the server looks at the pointer twice a second.
            while len(answers) < number * REQUESTS // SWAPS or swaps(server) < begun + number:
                await asyncio.sleep(0.1)
            registry.rollback()

    async def settled(server: ServingProcess, wanted: str) -> None:
        """Wait until `wanted` is live and nothing else is loaded, and warm it up."""
        async with server.openai_async() as api:
            while (await ask(api, PROMPTS[0])) != wanted or len(psutil.Process(server.process.pid).children()) > 1:
                await asyncio.sleep(0.1)
            for prompt in PROMPTS:
                await ask(api, prompt)

    async def everything(server: ServingProcess) -> None:
        registry.promote(second)
        await settled(server, second)
        registry.rollback()
        await settled(server, first)
        before = memory(server)
        await asyncio.gather(swap(server), *(client(server, seed) for seed in range(8)))
        await settled(server, first)
        after = memory(server)
        assert swaps(server) == SWAPS + 2
        print(f"{manner}: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
        assert abs(after - before) <= 0.1 * before

    with serving(home, folder) as server:
        asyncio.run(everything(server))
    assert len(answers) >= REQUESTS
    assert set(answers) == {first, second}
    store = Store.read_only(home.traces)
    assert store.check().ok
    trajectories = [store.trajectory(row.run_id) for row in store.runs(RunFilter(limit=None))]
    assert {len(trajectory.turns) for trajectory in trajectories} == {1}
    own, foreign = asyncio.run(distances(registry, trajectories[::SAMPLED]))
    print(f"{manner}: {max(own):.3f} at most from its own model, {sum(foreign) / len(foreign):.3f} from the other")
    assert max(own) < FAR < sum(foreign) / len(foreign)


async def distances(registry: Registry, trajectories: list[Trajectory]) -> tuple[list[float], list[float]]:
    """Return how far each reply's log-probabilities are, in the mean, from those of its own model and of the other."""
    own: list[float] = []
    other: list[float] = []
    for entry in registry.list():
        manifest = entry.manifest
        model = await WorkerModel.start(
            entry.path,
            WorkerSettings(context_tokens=512, parallel=8, threads=1, batch_threads=1),
            model_hash=manifest.model_hash,
            name=manifest.name,
            profile=manifest.profile,
        )
        for trajectory in trajectories:
            (turn,) = trajectory.turns
            prompt = tuple(token for segment in turn.segments for token in segment.ids)
            scores = await model.score(prompt + turn.reply.ids, len(prompt))
            apart = [abs(one - two) for one, two in zip(scores, turn.reply.raw_logprobs, strict=True)]
            made_here = trajectory.header.model_hash == manifest.model_hash
            (own if made_here else other).append(sum(apart) / len(apart))
        await model.close()
    return own, other
