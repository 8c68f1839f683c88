"""Guided runs draw away from the same prompt under the failure condition, at every turn and after a kill."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.run_makers import calls, runner, task

from koboshi_runtime.model import GenerateRequest, Reply
from koboshi_runtime.prompt import CONDITIONS, FAILURE, SUCCESS
from koboshi_runtime.runner import Runner
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_tools import UsageError

REPLIES = [calls(("put", {"text": "p"})), calls(("look", {"key": "a"})), "done"]


class Copying(ScriptedModel):
    """A model that knows conditions, and copies the store before it writes its second turn."""

    def __init__(self, replies: list[str], store: Path) -> None:
        super().__init__(replies)
        self.info = self.info.model_copy(
            update={"profile": self.info.profile.model_copy(update={"conditions": "plain"})}
        )
        self._store = store

    async def generate(self, request: GenerateRequest) -> Reply:
        """Write a turn."""
        if len(self.requests) == 1:
            with sqlite3.connect(self._store) as source, sqlite3.connect(self.copy) as target:
                source.backup(target)
        return await super().generate(request)

    @property
    def copy(self) -> Path:
        """Where the copy is."""
        return self._store.with_suffix(".copy.db")


def guided(folder: Path, replies: list[str], store: Store, file: Path, **settings: Any) -> tuple[Runner, Copying]:
    model = Copying(replies, file)
    return runner(folder, store, model, **{"guidance": 0.5, **settings}), model


def text(ids: tuple[int, ...]) -> str:
    return bytes(token for token in ids if token < 256).decode()


def test_every_turn_is_drawn_away_from_the_same_prompt_under_failure(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    made, model = guided(tmp_path, REPLIES, store, tmp_path / "traces.db")
    result = asyncio.run(made.run(task()))
    right, wrong = (CONDITIONS["plain"][name] for name in (SUCCESS, FAILURE))
    assert len(model.requests) == 3
    for request in model.requests:
        assert request.guidance == 0.5
        assert text(request.prompt_ids).count(right) == 1
        assert text(request.against_ids) == text(request.prompt_ids).replace(right, wrong)
    assert store.trajectory(result.run_id).header.guidance == 0.5


def test_resumed_run_is_guided_as_before(tmp_path: Path) -> None:
    file = tmp_path / "traces.db"
    store = Store.open(file)
    made, model = guided(tmp_path, REPLIES, store, file)
    run_id = asyncio.run(made.run(task())).run_id
    copy = Store.open(model.copy)
    turns = len(copy.trajectory(run_id).turns)
    again, second = guided(tmp_path, REPLIES[turns:], copy, tmp_path / "second.db")
    asyncio.run(again.resume(run_id))
    assert second.requests == model.requests[turns:]
    assert turns == 1


def test_run_that_is_not_guided_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    made, model = guided(tmp_path, REPLIES, store, tmp_path / "traces.db", guidance=0.0)
    result = asyncio.run(made.run(task()))
    assert {(request.guidance, request.against_ids) for request in model.requests} == {(0.0, ())}
    assert store.trajectory(result.run_id).header.guidance == 0.0


def test_model_without_conditions_and_a_run_that_is_to_fail_cannot_be_guided(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    with pytest.raises(UsageError, match="scripted cannot be guided"):
        runner(tmp_path, store, ["done"], guidance=0.5)
    with pytest.raises(UsageError, match="asked for a success"):
        guided(tmp_path, ["done"], store, tmp_path / "traces.db", condition=FAILURE)
