"""`koboshi serve` as OpenAI's own client sees it, over a real port, with a scripted model behind it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage
from tests.runtime.serving import Served, served

from koboshi_runtime.model import GenerateRequest, PromptProfile
from koboshi_runtime.records import EndReason, TurnKind
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.spoken import spoken
from koboshi_runtime.store import RunFilter
from koboshi_tools import ToolVerdict

CALL = '<tool_call>\n{"name": "stock", "arguments": {"item": "lamp"}}\n</tool_call>'
STOCK: Any = {
    "type": "function",
    "function": {
        "name": "stock",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
    },
}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
LAMPS: list[Any] = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "How many lamps?"}]

Open = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda *replies: stack.enter_context(served(tmp_path, ScriptedModel(replies)))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model has nothing to say."""
    with served(tmp_path_factory.mktemp("silent"), ScriptedModel(())) as running:
        yield running


def tool_message(call: Any, output: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": output}


def test_a_reply_is_a_completion_and_its_header_names_the_run(serve: Open) -> None:
    server = serve("Hello.")
    raw = server.openai().chat.completions.with_raw_response.create(model="current", messages=HI)
    reply = raw.parse()
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("Hello.", "stop")
    assert (reply.model, reply.system_fingerprint) == ("scripted", "sha256:scripted")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    stored = server.store.trajectory(raw.headers["x-koboshi-run"])
    assert (stored.header.prompt, stored.end and stored.end.reason) == ("Hi", EndReason.ANSWER)


def test_a_stream_says_the_same_as_it_is_written(serve: Open) -> None:
    server = serve("One two  three.")
    stream = server.openai().chat.completions.create(
        model="current", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(said) == "One two  three."
    assert len(said) == 3
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage is not None) == ([], True)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_by_the_client_and_the_conversation_is_one_run(serve: Open, stream: bool) -> None:
    server = serve(f"I look. {CALL}", "There are 4.")
    client = server.openai()
    message: ChatCompletionMessage
    if stream:
        with client.chat.completions.stream(model="current", messages=LAMPS, tools=[STOCK]) as told:
            message = told.get_final_completion().choices[0].message
    else:
        made_whole = client.chat.completions.create(model="current", messages=LAMPS, tools=[STOCK])
        message = made_whole.choices[0].message
    (call,) = message.tool_calls or []
    assert call.type == "function"
    assert (message.content, call.function.name) == ("I look.", "stock")
    assert json.loads(call.function.arguments) == {"item": "lamp"}
    later: list[Any] = [*LAMPS, message.model_dump(exclude_none=True), tool_message(call, '{"error": "no such shelf"}')]
    last = client.chat.completions.create(model="current", messages=later, tools=[STOCK])
    assert last.choices[0].message.content == "There are 4."
    (row,) = server.store.runs()
    stored = server.store.trajectory(row.run_id)
    assert [turn.kind for turn in stored.turns] == [TurnKind.CALL, TurnKind.ANSWER]
    (made,) = stored.calls
    assert made.intent.decision.reason == "not enforced: client-executed"
    assert made.result is not None
    assert (made.result.verdict, made.result.output) == (ToolVerdict.ERROR, '{"error": "no such shelf"}')
    assert (stored.header.system, stored.header.tools) == ("Be short.", ("stock",))


def six_steps(request: GenerateRequest) -> str:
    """Call five times, then answer: what stands in the prompt says which turn it is."""
    made = bytes(token for token in request.prompt_ids if token < 256).count(b"shelf says")
    return "There are 4." if made == 5 else CALL


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_equal_conversations_of_six_requests_at_once_become_a_trajectory_each(tmp_path: Path, count: int) -> None:
    async def converse(client: openai.AsyncOpenAI) -> str | None:
        messages: list[Any] = list(LAMPS)
        for _ in range(6):
            made = await client.chat.completions.create(model="current", messages=messages, tools=[STOCK])
            message = made.choices[0].message
            results = [tool_message(call, "the shelf says 4") for call in message.tool_calls or ()]
            messages += [message.model_dump(exclude_none=True), *results]
        said: str | None = messages[-1].get("content")
        return said

    async def all_at_once(client: openai.AsyncOpenAI) -> list[str | None]:
        return await asyncio.gather(*(converse(client) for _ in range(count)))

    with served(tmp_path, ScriptedModel(six_steps)) as server:
        assert asyncio.run(all_at_once(server.openai_async())) == ["There are 4."] * count
        rows = server.store.runs(RunFilter(limit=None))
        assert len(rows) == count
        for row in rows:
            stored = server.store.trajectory(row.run_id)
            assert (len(stored.turns), len(stored.calls), stored.header.parent_run_id) == (6, 5, None)
            assert stored.end is not None


def test_sixty_four_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    def echo(request: GenerateRequest) -> str:
        return bytes(token for token in request.prompt_ids if token < 256).split(b"user\n")[-1].split()[0].decode()

    async def ask(client: openai.AsyncOpenAI) -> list[str | None]:
        asked = [[{"role": "user", "content": f"say-{n} it"}] for n in range(64)]
        create: Any = client.chat.completions.create
        made = await asyncio.gather(*(create(model="current", messages=messages) for messages in asked))
        return [reply.choices[0].message.content for reply in made]

    with served(tmp_path, ScriptedModel(echo)) as server:
        assert asyncio.run(ask(server.openai_async())) == [f"say-{n}" for n in range(64)]
        assert len(server.store.runs(RunFilter(limit=None))) == 64


def test_a_conversation_goes_on_after_a_restart_by_the_run_in_its_header(tmp_path: Path) -> None:
    with served(tmp_path, ScriptedModel([CALL])) as first:
        raw = first.openai().chat.completions.with_raw_response.create(model="current", messages=LAMPS, tools=[STOCK])
        message = raw.parse().choices[0].message
    (call,) = message.tool_calls or []
    later: list[Any] = [*LAMPS, message.model_dump(exclude_none=True), tool_message(call, "4")]
    run_id = raw.headers["x-koboshi-run"]
    with served(tmp_path, ScriptedModel(["There are 4."])) as second:
        again = second.openai().chat.completions.with_raw_response.create(
            model="current", messages=later, tools=[STOCK], extra_headers={"X-Koboshi-Run": run_id}
        )
        assert again.headers["x-koboshi-run"] == run_id
        assert len(second.store.trajectory(run_id).turns) == 2


def test_a_header_that_names_another_conversation_is_refused(serve: Open) -> None:
    server = serve("Hello.", "no")
    client = server.openai()
    raw = client.chat.completions.with_raw_response.create(model="current", messages=HI)
    with pytest.raises(openai.ConflictError, match="not those of run"):
        client.chat.completions.create(
            model="current", messages=HI, extra_headers={"X-Koboshi-Run": raw.headers["x-koboshi-run"]}
        )


def test_next_question_is_a_run_whose_parent_is_the_one_before(serve: Open) -> None:
    server = serve("Hello.", "Bye.")
    client = server.openai()
    first = client.chat.completions.create(model="current", messages=HI).choices[0].message
    messages: list[Any] = [*HI, {"role": "assistant", "content": first.content}, {"role": "user", "content": "Go"}]
    client.chat.completions.create(model="current", messages=messages)
    later, before = server.store.runs()
    assert server.store.trajectory(later.run_id).header.parent_run_id == before.run_id


def test_edited_reply_begins_a_run_of_its_own(serve: Open) -> None:
    server = serve(CALL, "Four.")
    client = server.openai()
    message = client.chat.completions.create(model="current", messages=LAMPS, tools=[STOCK]).choices[0].message
    (call,) = message.tool_calls or []
    edited = message.model_dump(exclude_none=True)
    edited["tool_calls"][0]["function"]["arguments"] = '{"item": "chair"}'
    messages: list[Any] = [*LAMPS, edited, tool_message(call, "4")]
    client.chat.completions.create(model="current", messages=messages, tools=[STOCK])
    later, first = server.store.runs()
    assert [len(server.store.trajectory(row.run_id).turns) for row in (later, first)] == [1, 1]


def test_stop_text_is_not_said(serve: Open) -> None:
    server = serve("One. END two")
    reply = server.openai().chat.completions.create(model="current", messages=HI, stop="END")
    assert reply.choices[0].message.content == "One."


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "'gpt-4o' is not live here"),
        ({"n": 2}, openai.BadRequestError, "n = 2 cannot be kept"),
        ({"tool_choice": "required"}, openai.BadRequestError, "a tool is to be called, and is not among"),
        ({"tool_choice": "always"}, openai.BadRequestError, "tool_choice"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, openai.BadRequestError, "begins with a person's"),
        ({"messages": [*HI, {"role": "tool", "tool_call_id": "x", "content": "4"}]}, openai.BadRequestError, "results"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, openai.BadRequestError, "image_url"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "tool spec needs a name"),
        ({"extra_headers": {"X-Koboshi-Run": "nobody"}}, openai.BadRequestError, "No run 'nobody'"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_openais_shape(
    silent: Served, fields: dict[str, Any], error: type[openai.APIStatusError], said: str
) -> None:
    create: Any = silent.openai().chat.completions.create
    with pytest.raises(error, match=said) as raised:
        create(**{"model": "current", "messages": HI, **fields})
    assert isinstance(raised.value.body, dict)
    assert {"message", "type", "param", "code"} == set(raised.value.body)


def test_prompt_beyond_the_context_is_told_by_its_code(tmp_path: Path) -> None:
    info = ScriptedModel(()).info.model_copy(update={"context_tokens": 32})
    with served(tmp_path, ScriptedModel(["no"], info=info)) as server:
        with pytest.raises(openai.BadRequestError) as raised:
            server.openai().chat.completions.create(model="current", messages=LAMPS)
        assert raised.value.code == "context_length_exceeded"


def test_error_in_the_middle_of_a_stream_is_told_in_it(silent: Served) -> None:
    stream = silent.openai().chat.completions.create(model="current", messages=HI, stream=True)
    with pytest.raises(openai.APIError, match="the script has 0 replies"):
        list(stream)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "stock"}}])
def test_a_forced_call_is_asked_of_the_model(tmp_path: Path, choice: Any) -> None:
    model = ScriptedModel([CALL])
    other: Any = {"type": "function", "function": {"name": "other"}}
    with served(tmp_path, model) as server:
        create: Any = server.openai().chat.completions.create
        create(model="current", messages=LAMPS, tools=[STOCK, other], tool_choice=choice)
    constraint = model.requests[0].constraint
    assert constraint is not None
    names = [tool.name for tool in constraint.tools]
    assert (constraint.must_call, names) == (True, ["stock", "other"] if choice == "required" else ["stock"])


@pytest.mark.parametrize(("asked", "most"), [({}, 4), ({"parallel_tool_calls": False}, 1)])
def test_a_client_that_takes_one_call_a_reply_is_given_one(tmp_path: Path, asked: dict[str, Any], most: int) -> None:
    model = ScriptedModel([CALL])
    with served(tmp_path, model) as server:
        create: Any = server.openai().chat.completions.create
        create(model="current", messages=LAMPS, tools=[STOCK], **asked)
    constraint = model.requests[0].constraint
    assert (constraint and constraint.max_calls) == most


def test_models_are_listed_by_name_and_as_current(silent: Served) -> None:
    client = silent.openai()
    assert [model.id for model in client.models.list()] == ["current", "scripted"]
    assert client.models.retrieve("scripted").id == "scripted"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


PROFILES = [PromptProfile(template="chatml", tool_format=name) for name in ("hermes", "llama3_json", "mistral")]
PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "[TOOL_CALLS] [",
    "<|python_tag|>",
    "{",
    "END",
    "<t",
    " ",
    "\n",
    "a",
    "ä",
]


@example(profile=PROFILES[0], parts=["<think>"], cut=7, with_tools=False, stops=("k>a", "ND"))
@given(
    profile=st.sampled_from(PROFILES),
    parts=st.lists(st.sampled_from(PIECES), max_size=8),
    cut=st.integers(0, 40),
    with_tools=st.booleans(),
    stops=st.sampled_from([(), ("END",), ("k>a", "ND")]),
)
@example(profile=PROFILES[0], parts=["<think>"], cut=7, with_tools=False, stops=("k>a", "ND"))
def test_what_was_heard_is_never_taken_back(
    profile: PromptProfile, parts: list[str], cut: int, with_tools: bool, stops: tuple[str, ...]
) -> None:
    text = "".join(parts)
    sure = spoken(profile, text[:cut], with_tools=with_tools, stops=stops, whole=False)
    assert spoken(profile, text, with_tools=with_tools, stops=stops).startswith(sure)
