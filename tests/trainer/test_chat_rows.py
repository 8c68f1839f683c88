"""What a graph of somebody else's did is trained on like any run."""

from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage

from koboshi_runtime.chat_model import ChatKoboshi
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_trainer.rows import prefix_and_spans

_STOCK = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object", "properties": {}}}}
_CALL = '<tool_call>\n{"name": "stock", "arguments": {}}\n</tool_call>'


def test_replies_of_each_question_are_learnt_and_what_came_before_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    with ChatKoboshi(ScriptedModel(["Hello.", _CALL, "There are 4."])) as chat:
        model, messages = chat.bind_tools([_STOCK]), [SystemMessage("Be short."), HumanMessage("Hi")]
        messages += [model.invoke(messages), HumanMessage("Lamps?")]
        called = model.invoke(messages)
        messages += [called, ToolMessage("4", tool_call_id=called.tool_calls[0]["id"])]
        last = model.invoke(messages)
    stored = Store.read_only(tmp_path / "home" / "traces.db").trajectory(last.response_metadata["koboshi"]["run_id"])
    prefix, spans = prefix_and_spans(stored)
    learnt = [bytes(token for token in span.ids if token < 256) for span in spans if span.learn]
    assert learnt == [_CALL.encode(), b"There are 4."]
    assert b"Hello." in bytes(token for token in prefix if token < 256)
