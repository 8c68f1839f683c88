"""What other programs recorded is learnt in the ids of our model, as it would have written it itself."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from koboshi_runtime.home import Home, open_home
from koboshi_runtime.interchange.importing import import_runs
from koboshi_runtime.interchange.reading import read_runs
from koboshi_runtime.prompt import CONDITIONS, SUCCESS
from koboshi_runtime.records import Split
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_trainer.conditions import CONDITION_SET
from koboshi_trainer.dataset import DatasetError, DatasetSettings
from koboshi_trainer.rows import Example
from koboshi_trainer.stages import build

_TOOL = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object", "properties": {}}}}
_CALL = {"id": "a", "type": "function", "function": {"name": "stock", "arguments": "{}"}}
_SHOP: list[dict[str, Any]] = [
    {"role": "system", "content": "Keep a shop."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Lamps?"},
    {"role": "assistant", "content": "I look.", "tool_calls": [_CALL], "reasoning_content": "hm"},
    {"role": "tool", "tool_call_id": "a", "content": "4"},
    {"role": "assistant", "content": "There are 4."},
]


def _home(folder: Path, *records: dict[str, Any]) -> Home:
    home, path = open_home(path=folder / "home"), folder / "runs.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    with closing(Store.open(home.traces)) as store:
        store.assign_splits([(text, Split.TRAIN) for text in ("Hi", "Lamps?")])
        import_runs(store, read_runs(path).runs, source="openai runs.jsonl", project="shop")
    return home


def _words(ids: tuple[int, ...]) -> str:
    return bytes(token for token in ids if token < 256).decode()


def _only(home: Home) -> Example:
    dataset = asyncio.run(build(home, ScriptedModel([]), DatasetSettings(held_out_share=0)))
    assert dataset.manifest.counts.imported == {"openai runs.jsonl": 1}
    (example,) = dataset.train
    return example


def test_an_imported_run_is_learnt_as_our_model_would_have_written_it(tmp_path: Path) -> None:
    example = _only(_home(tmp_path, {"messages": _SHOP, "tools": [_TOOL], "outcome": "success"}))
    learnt = [_words(span.ids) for span in example.spans if span.learn]
    call = '{"name": "stock", "arguments": {}}'
    # The tags around the call are ids of their own, as in every prompt.
    assert learnt == [f"I look.\n\n{call}\n", "There are 4."]
    assert "Hello." in _words(example.prefix_ids)
    assert "Keep a shop." in _words(example.prefix_ids)
    assert "Lamps?" in _words(example.users[""])
    assert CONDITIONS[CONDITION_SET][SUCCESS] in _words(example.users["success"])


def test_a_call_of_a_tool_that_was_not_defined_is_not_learnt(tmp_path: Path) -> None:
    home = _home(tmp_path, {"messages": _SHOP, "outcome": "success"})
    with pytest.raises(DatasetError, match="not_offered 1, unknown 1"):
        asyncio.run(build(home, ScriptedModel([])))


def test_an_evaluation_that_was_imported_is_not_learnt(tmp_path: Path) -> None:
    shop = {"messages": _SHOP, "tools": [_TOOL], "outcome": "success"}
    other = {"messages": [{**m, "content": "x"} if m["role"] == "user" else m for m in _SHOP], "tools": [_TOOL]}
    home = _home(tmp_path, shop, {**other, "purpose": "eval", "outcome": "success"})
    assert _words(_only(home).users[""]).count("Lamps?") == 1
