"""The live model changes under requests: nobody fails, nobody is answered by two models, nothing is left loaded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import served

from koboshi_runtime.home import open_home
from koboshi_runtime.model import GenerateRequest, Model
from koboshi_runtime.models.manifest import ModelManifest, ModelState
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.night_sign import AtWork, sign_of
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.server.keeper import Keeper, Manner
from koboshi_runtime.server.metrics import Metrics
from koboshi_runtime.server.resting import rest_at_night
from koboshi_runtime.store.owner import this_process
from koboshi_runtime.workermodel import ModelError

CALL = '<tool_call>\n{"name": "stock", "arguments": {}}\n</tool_call>'
STOCK: Any = {"type": "function", "function": {"name": "stock"}}


class Bench:
    """A registry of one pointer, and models that say their own name and know whether they are loaded."""

    def __init__(self, manner: Manner, *, fits: bool = True) -> None:
        self.live, self.loaded, self.most = "one", list[str](), 0
        self.broken: set[str] = set()
        self.keeper = Keeper(lambda: entry(self.live), self._load, lambda *_: fits, Metrics(), manner)

    async def _load(self, wanted: ModelEntry) -> Model:
        name = wanted.manifest.name
        await asyncio.sleep(0)
        if name in self.broken:
            raise ModelError(f"{name} does not load")
        self.loaded.append(name)
        self.most = max(self.most, len(self.loaded))
        info = ScriptedModel(()).info.model_copy(update={"name": name, "model_hash": wanted.manifest.model_hash})
        model = ScriptedModel(lambda _: name, info=info)

        async def close() -> None:
            self.loaded.remove(name)

        model.close = close  # type: ignore[method-assign]
        return model

    async def ask(self) -> tuple[str, str]:
        """Return the name of a leased model, and what it says after others had a turn."""
        async with self.keeper.lease() as model:
            await asyncio.sleep(0.001)
            assert model.info.name in self.loaded, "a leased model was closed"
            return model.info.name, (await model.generate(GenerateRequest(prompt_ids=(1,), max_tokens=1))).text


def entry(name: str) -> ModelEntry:
    manifest = ModelManifest(
        model_hash=f"sha256:{name}",
        name=name,
        architecture="llama",
        quantization="Q8_0",
        bytes=1,
        context_tokens=64,
        source="test",
        created_at="2026-01-01T00:00:00+00:00",
        profile=ScriptedModel(()).info.profile,
    )
    return ModelEntry(manifest, ModelState.CURRENT, Path("model.gguf"))


@pytest.mark.parametrize(
    ("manner", "fits", "most"), [("auto", True, 2), ("auto", False, 1), ("overlap", False, 2), ("drain", True, 1)]
)
def test_twenty_swaps_under_requests_lose_none_and_mix_none(manner: Manner, fits: bool, most: int) -> None:
    bench = Bench(manner, fits=fits)
    answers: list[tuple[str, str]] = []

    async def client() -> None:
        for _ in range(100):
            answers.append(await bench.ask())

    async def swap() -> None:
        for number in range(20):
            await asyncio.sleep(0.004)
            bench.live = ("two", "one")[number % 2]
            await bench.keeper.follow()

    async def all_at_once() -> None:
        await bench.keeper.start()
        await asyncio.gather(swap(), *(client() for _ in range(10)))
        await bench.keeper.close()

    asyncio.run(all_at_once())
    assert len(answers) == 1000
    assert all(leased == said for leased, said in answers)
    assert {said for _, said in answers} == {"one", "two"}
    assert (bench.most, bench.loaded) == (most, [])


@pytest.mark.parametrize("manner", ["overlap", "drain"])
def test_a_model_that_does_not_load_leaves_the_old_one_live(manner: Manner) -> None:
    async def carry() -> list[tuple[str, str]]:
        bench = Bench(manner)
        await bench.keeper.start()
        bench.live, bench.broken = "two", {"two"}
        await bench.keeper.follow()
        await bench.keeper.follow()
        failed = bench.keeper.metrics.page()[0].decode()
        assert 'koboshi_swaps_total{result="failed"} 1.0' in failed
        first = await bench.ask()
        bench.live, bench.broken = "three", set()
        await bench.keeper.follow()
        return [first, await bench.ask()]

    assert asyncio.run(carry()) == [("one", "one"), ("three", "three")]


def test_what_was_begun_ends_on_the_model_of_its_beginning() -> None:
    async def carry() -> tuple[str, str]:
        bench = Bench("overlap")
        await bench.keeper.start()
        async with bench.keeper.lease() as held:
            bench.live = "two"
            await bench.keeper.follow()
            new = await bench.ask()
            assert sorted(bench.loaded) == ["one", "two"]
            return held.info.name, new[0]

    assert asyncio.run(carry()) == ("one", "two")


def test_the_pointer_is_followed_when_its_file_is_replaced(tmp_path: Path) -> None:
    pointer = tmp_path / "current"

    async def carry() -> str:
        bench = Bench("overlap")
        await bench.keeper.start()
        watching = asyncio.create_task(bench.keeper.watch(pointer))
        await asyncio.sleep(0)
        bench.live = "two"
        pointer.write_text("two", encoding="utf-8")
        while (name := (await bench.ask())[0]) == "one":
            await asyncio.sleep(0.01)
        watching.cancel()
        return name

    assert asyncio.run(carry()) == "two"


def test_a_model_rests_while_a_night_is_at_work_and_wakes_after_it(tmp_path: Path) -> None:
    bench, home = Bench("auto"), open_home(path=tmp_path / "home")
    sign = AtWork(owner=this_process(), pid=1, project="p", since="now", stage="fit")

    async def served() -> None:
        await bench.keeper.start()
        resting = asyncio.create_task(rest_at_night(bench.keeper, home, look_s=0.001, unused_s=0))
        await asyncio.sleep(0.02)
        assert bench.loaded == ["one"]
        sign_of(home).write_text(sign.model_dump_json(), encoding="utf-8")
        while bench.loaded:
            await asyncio.sleep(0.001)
        bench.live = "two"
        assert await bench.ask() == ("two", "two"), "whoever asks at night is answered, by what is live now"
        while bench.loaded:
            await asyncio.sleep(0.001)
        sign_of(home).unlink()
        while not bench.loaded:
            await asyncio.sleep(0.001)
        resting.cancel()

    asyncio.run(served())
    assert (bench.loaded, bench.most) == (["two"], 1)


def test_a_model_does_not_rest_while_it_wakes_and_whoever_asks_finds_it_again() -> None:
    async def served(bench: Bench) -> None:
        await bench.keeper.start()
        assert await bench.keeper.rest()
        asking = asyncio.create_task(bench.ask())
        while not asking.done():
            await bench.keeper.rest()
            await asyncio.sleep(0)
        assert await asking == ("one", "one")
        assert bench.most == 1

    for _ in range(20):
        asyncio.run(served(Bench("auto")))


def test_a_model_in_use_does_not_rest() -> None:
    bench = Bench("auto")

    async def served() -> None:
        await bench.keeper.start()
        async with bench.keeper.lease():
            assert not await bench.keeper.rest()
            assert bench.keeper.unused_s() == 0
        assert await bench.keeper.rest()
        assert not await bench.keeper.rest()
        await asyncio.gather(*(bench.ask() for _ in range(5)))

    asyncio.run(served())
    assert (bench.loaded, bench.most) == (["one"], 1)


def test_a_model_that_does_not_wake_fails_the_request_and_is_tried_again() -> None:
    bench = Bench("auto")

    async def served() -> None:
        await bench.keeper.start()
        await bench.keeper.rest()
        bench.broken.add("one")
        with pytest.raises(ModelError, match="does not load"):
            await bench.ask()
        bench.broken.clear()
        assert await bench.ask() == ("one", "one")

    asyncio.run(served())


def test_a_conversation_across_a_swap_goes_on_as_a_run_of_the_new_model(tmp_path: Path) -> None:
    info = ScriptedModel(()).info
    live = [
        ScriptedModel([CALL], info=info.model_copy(update={"model_hash": "sha256:old"})),
        ScriptedModel([CALL, "There are 4."], info=info.model_copy(update={"model_hash": "sha256:new"})),
    ]

    class Changing:
        @asynccontextmanager
        async def lease(self) -> AsyncIterator[Model]:
            yield live[0]

    with served(tmp_path, live[0], models=Changing()) as server:
        create = server.openai().chat.completions.with_raw_response.create
        messages: list[Any] = [{"role": "user", "content": "How many lamps?"}]
        told: list[tuple[str, str]] = []
        for _ in range(3):
            raw = create(model="current", messages=messages, tools=[STOCK])
            message = raw.parse().choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls or ():
                messages.append({"role": "tool", "tool_call_id": call.id, "content": "4"})
            told.append((raw.headers["x-koboshi-run"], raw.headers["x-koboshi-model"]))
            del live[: len(live) - 1]
        assert [model for _, model in told] == ["sha256:old", "sha256:new", "sha256:new"]
        assert told[0][0] != told[1][0] == told[2][0]
        new = server.store.trajectory(told[1][0])
        assert (new.header.model_hash, new.header.parent_run_id, len(new.turns)) == ("sha256:new", told[0][0], 2)
        assert len(server.store.trajectory(told[0][0]).turns) == 1
