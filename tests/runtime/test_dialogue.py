"""A conversation with the project's agent: each question a run, the ones before it its prefix."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.runtime.run_makers import calls, runner, task

from koboshi_runtime.dialogue import Dialogue
from koboshi_runtime.home import open_home
from koboshi_runtime.house.forget import forget
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.records import EndReason, SegmentKind, Trajectory
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_trainer.rows import prefix_and_spans

LOOK = calls(("look", {"key": "x"}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def converse(folder: Path, store: Store, replies: Sequence[str]) -> tuple[Trajectory, Trajectory]:
    """Ask two questions, and return their runs as they are stored."""

    async def both() -> list[str]:
        made, dialogue = runner(folder, store, list(replies)), Dialogue()
        return [(await made.run(task(name), dialogue=dialogue)).run_id for name in ("first", "second")]

    first, second = asyncio.run(both())
    return store.trajectory(first), store.trajectory(second)


def test_a_question_goes_on_with_what_was_said_by_its_very_ids(tmp_path: Path, store: Store) -> None:
    first, second = converse(tmp_path, store, [LOOK, "done", "done again"])
    assert second.header.parent_run_id == first.run_id
    prefix, user = second.turns[0].segments
    assert (prefix.kind, user.kind) == (SegmentKind.PREFIX, SegmentKind.USER)
    parts = (ids for turn in first.turns for ids in (*(segment.ids for segment in turn.segments), turn.reply.ids))
    said = tuple(token for ids in parts for token in ids)
    assert prefix.ids[: len(said)] == said
    assert [text in prefix.text for text in ("Do first.", "value of x", "done", "Do second.")] == [True] * 3 + [False]
    assert prefix.text.endswith("\n")


def test_only_the_last_question_is_learnt(tmp_path: Path, store: Store) -> None:
    _, second = converse(tmp_path, store, ["done", "well done"])
    prefix, spans = prefix_and_spans(second)
    assert [bytes(t for t in span.ids if t < 256) for span in spans if span.learn] == [b"well done"]
    assert b"Do first." in bytes(token for token in prefix if token < 256)


def test_a_question_after_one_that_was_stopped_finds_the_models_turn_closed(tmp_path: Path, store: Store) -> None:
    first, second = converse(tmp_path, store, [*[LOOK] * 3, "done"])
    assert (first.end and first.end.reason) == EndReason.LOOP
    assert second.turns[0].segments[0].text.endswith("assistant\n<|im_end|>\n") or second.turns[0].segments[
        0
    ].text.endswith("<|im_end|>\n")
    assert (second.end and second.end.answer) == "done"


def test_what_was_said_is_told_anew_to_another_model_in_its_own_manner(tmp_path: Path, store: Store) -> None:
    async def talk() -> list[str]:
        first, dialogue = runner(tmp_path, store, [LOOK, "done", "done again"]), Dialogue()
        asked = [(await first.run(task(name), dialogue=dialogue)).run_id for name in ("first", "second")]
        info = first.model.info.model_copy(
            update={"model_hash": "sha256:other", "profile": PromptProfile(template="mistral", tool_format="mistral")}
        )
        second = replace(first, model=ScriptedModel(["done at last"], info=info))
        return [*asked, (await second.run(task("third"), dialogue=dialogue)).run_id]

    runs = [store.trajectory(run_id) for run_id in asyncio.run(talk())]
    assert [run.header.parent_run_id for run in runs] == [None, runs[0].run_id, runs[1].run_id]
    prefix = runs[2].turns[0].segments[0].text
    told = ["Do first.", '"look"', "value of x", "done", "Do second.", "done again"]
    assert [text for text in told if text in prefix] == told
    assert "<|im_" not in prefix
    assert prefix.count("[INST]") == 2


def test_a_conversation_is_retold_without_what_was_forgotten(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    store, dialogue = Store.open(home.traces), Dialogue()
    talking = runner(tmp_path, store, ["done", "done", "done"])
    first, _, _ = (asyncio.run(talking.run(task(name), dialogue=dialogue)).run_id for name in ("one", "two", "three"))
    forget(home, store, first, who="me")
    other = ScriptedModel(["hello"])
    other.info = other.info.model_copy(update={"model_hash": "sha256:other"})
    again = Store.open(home.traces)
    talked = asyncio.run(runner(tmp_path, again, other).run(task("four"), dialogue=dialogue))
    told = again.trajectory(talked.run_id).turns[0].segments[0].text
    assert [f"Do {name}." in told for name in ("one", "two", "three")] == [False, True, True]
