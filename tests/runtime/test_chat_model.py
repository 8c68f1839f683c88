"""A graph of somebody else's, with koboshi's model in it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph

from koboshi_runtime.chat_model import ChatKoboshi
from koboshi_runtime.records import EndReason, Purpose, SegmentKind, TurnKind
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_tools import ToolVerdict, UsageError

CALL = '<tool_call>\n{"name": "stock", "arguments": {"item": "lamp"}}\n</tool_call>'

Open = Callable[..., ChatKoboshi]


@tool
def stock(item: str) -> int:
    """Say how many of an item are in stock."""
    return {"lamp": 4}[item]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    opened: list[ChatKoboshi] = []

    def open_chat(*replies: str, **fields: Any) -> ChatKoboshi:
        opened.append(ChatKoboshi(ScriptedModel(replies), **fields))
        return opened[-1]

    yield open_chat
    for one in opened:
        one.close()


@pytest.fixture
def store(tmp_path: Path, chat: Open) -> Store:
    (tmp_path / "home").mkdir(mode=0o700)
    return Store.open(tmp_path / "home" / "traces.db")


def requests(chat: ChatKoboshi) -> list[bytes]:
    """Return the prompts of the scripted model, whose ids of text are bytes."""
    model = chat._model
    assert isinstance(model, ScriptedModel)
    return [bytes(token for token in request.prompt_ids if token < 256) for request in model.requests]


def run_of(message: BaseMessage) -> Any:
    return message.response_metadata["koboshi"]["run_id"]


def led_by_a_graph(chat: ChatKoboshi, question: str) -> list[BaseMessage]:
    model = chat.bind_tools([stock])

    def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def act(state: MessagesState) -> dict[str, Any]:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        made = [ToolMessage(str(stock.invoke(call["args"])), tool_call_id=call["id"]) for call in last.tool_calls]
        return {"messages": made}

    graph = StateGraph(MessagesState)
    graph.add_node("speak", speak)
    graph.add_node("act", act)
    graph.add_edge(START, "speak")
    graph.add_conditional_edges("speak", lambda state: "act" if state["messages"][-1].tool_calls else END)
    graph.add_edge("act", "speak")
    messages: list[BaseMessage] = graph.compile().invoke({"messages": [HumanMessage(question)]})["messages"]
    return messages


def test_graph_calls_its_tool_and_the_conversation_is_stored_as_a_run(chat: Open, store: Store) -> None:
    messages = led_by_a_graph(chat(CALL, "There are 4."), "How many lamps?")
    assert [type(message).__name__ for message in messages] == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]
    assert messages[-1].content == "There are 4."
    stored = store.trajectory(run_of(messages[-1]))
    assert run_of(messages[1]) == stored.run_id
    assert (stored.header.prompt, stored.header.purpose, stored.header.tools) == (
        "How many lamps?",
        Purpose.WORK,
        ("stock",),
    )
    assert [turn.kind for turn in stored.turns] == [TurnKind.CALL, TurnKind.ANSWER]
    (call,) = stored.calls
    assert call.result is not None
    assert (call.intent.call.arguments, call.result.output) == ({"item": "lamp"}, "4")
    assert stored.end is not None
    assert (stored.end.reason, stored.end.answer) == (EndReason.ANSWER, "There are 4.")


def test_what_the_model_wrote_enters_later_prompts_by_its_ids(chat: Open, store: Store) -> None:
    opened = chat(CALL, "There are 4.")
    led_by_a_graph(opened, "How many lamps?")
    model = opened._model
    assert isinstance(model, ScriptedModel)
    first, second = (request.prompt_ids for request in model.requests)
    (row,) = store.runs()
    turns = store.trajectory(row.run_id).turns
    assert second[: len(first) + len(turns[0].reply.ids)] == (*first, *turns[0].reply.ids)
    assert [segment.kind for turn in turns for segment in turn.segments] == [
        SegmentKind.PREFIX,
        SegmentKind.USER,
        SegmentKind.TOOL,
    ]


def test_next_question_begins_a_run_with_what_was_said_as_its_prefix(chat: Open, store: Store) -> None:
    opened = chat("Hello.", "Bye.", project="desk")
    first = opened.invoke([SystemMessage("Be short."), HumanMessage("Hi")])
    later = opened.invoke([SystemMessage("Be short."), HumanMessage("Hi"), first, HumanMessage("Go now")])
    assert run_of(first) != run_of(later)
    stored = store.trajectory(run_of(later))
    assert (stored.header.prompt, stored.header.project, stored.header.system) == ("Go now", "desk", "Be short.")
    prefix, user = stored.turns[0].segments
    assert (prefix.kind, user.kind) == (SegmentKind.PREFIX, SegmentKind.USER)
    assert [text in prefix.text for text in ("Be short.", "Hi", "Hello.", "Go now")] == [True, True, True, False]
    assert requests(opened)[1].endswith(b"user\nGo now\nassistant\n")


def test_conversation_goes_on_in_another_process(chat: Open, store: Store) -> None:
    asked = HumanMessage("How many lamps?")
    first = chat(CALL).bind_tools([stock]).invoke([asked])
    told = ToolMessage("nothing", tool_call_id=first.tool_calls[0]["id"], status="error")
    messages = messages_from_dict(messages_to_dict([asked, first, told]))
    later = chat("I do not know.").bind_tools([stock]).invoke(messages)
    assert run_of(later) == run_of(first)
    stored = store.trajectory(run_of(first))
    assert [call.result.verdict for call in stored.calls if call.result] == [ToolVerdict.ERROR]
    assert len(stored.turns) == 2


def test_second_answer_to_the_same_results_is_a_run_whose_parent_is_the_first(chat: Open, store: Store) -> None:
    opened = chat(CALL, "4.", "Four.")
    model, asked = opened.bind_tools([stock]), HumanMessage("How many lamps?")
    first = model.invoke([asked])
    messages = [asked, first, ToolMessage("4", tool_call_id=first.tool_calls[0]["id"])]
    assert run_of(model.invoke(messages)) == run_of(first)
    again = model.invoke(messages)
    assert again.content == "Four."
    stored = store.trajectory(run_of(again))
    assert (stored.run_id != run_of(first), stored.header.parent_run_id) == (True, run_of(first))
    (turn,) = stored.turns
    kinds = [SegmentKind.PREFIX, SegmentKind.USER, SegmentKind.REPLY, SegmentKind.TOOL]
    assert [segment.kind for segment in turn.segments] == kinds
    assert len(store.trajectory(run_of(first)).turns) == 2


def test_invalid_call_is_told_to_the_caller_and_then_to_the_model_and_never_shown_again(
    chat: Open, store: Store
) -> None:
    opened = chat('<tool_call>\n{"name": "stock"', "There are 4.")
    model, asked = opened.bind_tools([stock]), HumanMessage("How many lamps?")
    first = model.invoke([asked])
    assert first.tool_calls == []
    assert "not valid JSON" in str(first.invalid_tool_calls[0]["error"])
    assert model.invoke([asked, first]).content == "There are 4."
    second = requests(opened)[1]
    assert b"not valid JSON" in second
    assert b'{"name": "stock"\n' not in second
    assert [turn.kind for turn in store.trajectory(run_of(first)).turns] == [TurnKind.INVALID, TurnKind.ANSWER]


def test_reply_of_another_model_is_rendered_as_ours_would_write_it(chat: Open) -> None:
    opened = chat("Yes.")
    made = AIMessage("", tool_calls=[{"name": "stock", "args": {"item": "lamp"}, "id": "1"}])
    opened.bind_tools([stock]).invoke([HumanMessage("Lamps?"), made, ToolMessage("4", tool_call_id="1")])
    assert b'assistant\n\n{"name": "stock", "arguments": {"item": "lamp"}}\n\nuser' in requests(opened)[0]


def test_replies_can_be_awaited_side_by_side(chat: Open, store: Store) -> None:
    opened = chat("one", "two")

    async def both() -> tuple[AIMessage, AIMessage]:
        return await asyncio.gather(opened.ainvoke("first"), opened.ainvoke("second"))

    replies = asyncio.run(both())
    assert sorted(str(reply.content) for reply in replies) == ["one", "two"]
    assert {row.run_id for row in store.runs()} == {run_of(reply) for reply in replies}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([HumanMessage("Hi"), AIMessage("Hello")], "nothing to answer"),
        ([AIMessage("Hello")], "begins with a person's message"),
        ([HumanMessage("Hi"), SystemMessage("Be short.")], "behind the first message"),
        ([HumanMessage([{"type": "image_url", "image_url": "x"}])], "'image_url'"),
    ],
)
def test_conversation_that_cannot_be_answered_is_refused(
    chat: Open, store: Store, messages: list[BaseMessage], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        chat("no").invoke(messages)
    assert store.runs() == []


def test_forcing_a_tool_is_refused(chat: Open) -> None:
    with pytest.raises(UsageError, match="'any' cannot be kept"):
        chat().bind_tools([stock], tool_choice="any")
