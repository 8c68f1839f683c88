"""A running server's model as other commands use it, over its socket in the home."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from koboshi_runtime.home import Home, open_home
from koboshi_runtime.model import GenerateRequest, Model, Piece
from koboshi_runtime.presence import announce, model_socket
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.served_model import ServedModel, served_model
from koboshi_runtime.server.listening import listen_at
from koboshi_runtime.server.model_socket import share_model
from koboshi_runtime.workermodel import ModelError

REQUEST = GenerateRequest(prompt_ids=(1, 2), max_tokens=8)


class Held:
    """A model whose leases are counted, and which can be changed."""

    def __init__(self, model: Model) -> None:
        self.model, self.leases = model, 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Model]:
        self.leases += 1
        try:
            yield self.model
        finally:
            self.leases -= 1


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


def with_server(home: Home, model: Model, use: Callable[[Held, ServedModel], Coroutine[Any, Any, None]]) -> None:
    """Share a model as a server does, and use it as another command does."""

    async def carry() -> None:
        held = Held(model)
        shared = await share_model(held, listen_at(model_socket(home)))
        announce(home, url="http://127.0.0.1:1/v1", project="test")
        try:
            found = await served_model(home, lambda info: info.name == "scripted")
            assert found is not None
            await use(held, found)
            await found.close()
        finally:
            await shared.close()

    asyncio.run(carry())


def test_a_reply_comes_back_equal_and_can_be_followed(home: Home) -> None:
    async def use(held: Held, found: ServedModel) -> None:
        pieces: list[str] = []
        first = await found.generate(REQUEST)
        followed = await found.stream(REQUEST, pieces.append)
        assert (first.text, followed.text, "".join(pieces)) == ("One word.", "Two more words.", "Two more words.")
        assert len(pieces) == 3
        assert await found.tokenize((Piece(text="ab"), Piece(text="<|im_end|>", markup=True))) == (97, 98, 256 + 1)
        assert await found.score((1, 2, 3), 1) == (-1.0, -1.0)

    with_server(home, ScriptedModel(["One word.", "Two more words."]), use)


def test_an_error_of_the_model_is_raised_as_one(home: Home) -> None:
    async def use(held: Held, found: ServedModel) -> None:
        with pytest.raises(ModelError, match="the script has 0 replies"):
            await found.generate(REQUEST)

    with_server(home, ScriptedModel(()), use)


def test_a_connection_holds_the_model_until_it_rests(home: Home) -> None:
    async def use(held: Held, found: ServedModel) -> None:
        assert held.leases == 1
        await found.rest()
        while held.leases > 0:
            await asyncio.sleep(0)
        await found.wake(follow=False)
        assert held.leases == 1

    with_server(home, ScriptedModel(()), use)


def test_another_model_is_not_taken_for_the_one_that_was_begun_with(home: Home) -> None:
    async def use(held: Held, found: ServedModel) -> None:
        await found.rest()
        info = held.model.info.model_copy(update={"model_hash": "sha256:other", "name": "other"})
        held.model = ScriptedModel((), info=info)
        with pytest.raises(ModelError, match="the server's model is other by now, not scripted"):
            await found.wake(follow=False)

    with_server(home, ScriptedModel(()), use)


def test_whoever_follows_the_live_model_takes_the_next_one(home: Home) -> None:
    async def use(held: Held, found: ServedModel) -> None:
        await found.rest()
        info = held.model.info.model_copy(update={"model_hash": "sha256:other", "name": "other"})
        held.model = ScriptedModel(("of the other",), info=info)
        await found.wake(follow=True)
        assert (found.info.name, (await found.generate(REQUEST)).text) == ("other", "of the other")

    with_server(home, ScriptedModel(()), use)


def test_a_server_that_ends_is_told(home: Home) -> None:
    async def carry() -> None:
        shared = await share_model(Held(ScriptedModel(())), listen_at(model_socket(home)))
        announce(home, url="http://127.0.0.1:1/v1", project="test")
        found = await served_model(home, lambda _: True)
        assert found is not None
        await shared.close()
        with pytest.raises(ModelError, match="the server ended"):
            await found.generate(REQUEST)
        assert await served_model(home, lambda _: True) is None

    asyncio.run(carry())


def test_a_server_that_does_not_answer_is_not_held_on_to(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koboshi_runtime.served_model._PATIENCE_S", 0.05)

    class Busy(Held):
        @asynccontextmanager
        async def lease(self) -> AsyncIterator[Model]:
            self.leases += 1
            try:
                await asyncio.Event().wait()
                yield self.model
            finally:
                self.leases -= 1

    async def carry() -> int:
        held = Busy(ScriptedModel(()))
        shared = await share_model(held, listen_at(model_socket(home)))
        announce(home, url="http://127.0.0.1:1/v1", project="test")
        assert await served_model(home, lambda _: True) is None
        await shared.close()
        return held.leases

    assert asyncio.run(carry()) == 0


def test_without_a_server_or_with_another_model_nothing_is_shared(home: Home) -> None:
    assert asyncio.run(served_model(home, lambda _: True)) is None

    async def use(held: Held, found: ServedModel) -> None:
        assert await served_model(home, lambda info: False) is None

    with_server(home, ScriptedModel(()), use)


def test_the_socket_is_its_owners_alone_even_under_a_long_name(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / ("long" * 30) / "home")
    assert len(str(model_socket(home))) > 107

    async def use(held: Held, found: ServedModel) -> None:
        assert stat.S_IMODE(model_socket(home).stat().st_mode) == 0o600

    with_server(home, ScriptedModel(()), use)
