"""Reading replies: the inverse of rendering them, whatever stands inside the arguments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime import prompt
from koboshi_runtime.formats import FORMATS, GEMMA_JSON, HERMES, LLAMA3_JSON, MISTRAL, ToolFormat
from koboshi_runtime.model import FinishReason, PromptProfile
from koboshi_runtime.parse import AnswerReply, CallReply, InvalidReply, ParsedReply, parse_reply
from koboshi_tools import ToolCall, ToolSpec

ANY = ToolSpec(name="any", parameters={"type": "object"})
NAMED = ToolSpec(name="other.tool", parameters={"type": "object"})
MARKUP = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<think>",
    "</think>",
    "]",
    "}",
    '"',
    "\\",
    "\n",
]

texts = st.lists(st.sampled_from(MARKUP) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(
    ToolCall, name=st.sampled_from(["any", "other.tool"]), arguments=st.dictionaries(texts, values, max_size=4)
)


def profile(found: ToolFormat) -> PromptProfile:
    family = {"hermes": "chatml", "llama3_json": "llama3", "mistral": "mistral", "gemma_json": "gemma"}
    return PromptProfile(template=family[found.name], tool_format=found.name)


def parse(
    found: ToolFormat,
    text: str,
    *,
    finish: FinishReason = FinishReason.STOP,
    tools: tuple[ToolSpec, ...] = (ANY, NAMED),
) -> ParsedReply:
    return parse_reply(profile(found), text, finish, tools)


@pytest.mark.parametrize("found", FORMATS.values(), ids=lambda found: found.name)
@given(asked=st.lists(calls, min_size=1, max_size=3))
def test_what_is_rendered_is_read_back(found: ToolFormat, asked: list[ToolCall]) -> None:
    asked = asked if found.between is not None else asked[:1]
    assert parse(found, prompt.render_calls(found, asked)) == CallReply(text="", calls=tuple(asked))


@pytest.mark.parametrize("found", FORMATS.values(), ids=lambda found: found.name)
@given(text=st.text() | texts)
def test_any_text_is_read_as_something(found: ToolFormat, text: str) -> None:
    assert isinstance(parse(found, text), CallReply | AnswerReply | InvalidReply)


@pytest.mark.parametrize("found", FORMATS.values(), ids=lambda found: found.name)
@given(asked=calls, cut=st.integers(1, 30))
def test_a_cut_call_is_invalid_and_counted(found: ToolFormat, asked: ToolCall, cut: int) -> None:
    written = prompt.render_calls(found, [asked])
    kept = written[: max(len(found.opening) + 1, len(written) - cut)]
    read = parse(found, kept, finish=FinishReason.LENGTH)
    assert isinstance(read, InvalidReply)
    assert read.calls_begun == 1


def test_a_thought_before_a_call_is_left_out_of_its_text() -> None:
    read = parse(HERMES, '<think>a <tool_call> maybe</think>I look.\n<tool_call>\n{"name": "any"}\n</tool_call>')
    assert read == CallReply(text="I look.", calls=(ToolCall(name="any", arguments={}),))


@pytest.mark.parametrize("lead", ["", "<|python_tag|>", "<think>hm</think>\n", "<think>hm</think><|python_tag|> "])
def test_a_call_of_llama_may_follow_its_mark_and_a_thought(lead: str) -> None:
    read = parse(LLAMA3_JSON, lead + '{"name": "any", "parameters": {"a": 1}}')
    assert read == CallReply(text="", calls=(ToolCall(name="any", arguments={"a": 1}),))


def test_an_empty_list_of_calls_is_invalid() -> None:
    read = parse(MISTRAL, "[TOOL_CALLS] []")
    assert isinstance(read, InvalidReply)
    assert read.calls_begun == 1


def test_each_call_of_a_list_is_counted() -> None:
    read = parse(MISTRAL, '[TOOL_CALLS] [{"name": "any"}, {"name": "none such"}]')
    assert isinstance(read, InvalidReply)
    assert read.calls_begun == 2


def test_an_id_that_a_model_adds_to_its_call_is_ignored() -> None:
    read = parse(MISTRAL, '[TOOL_CALLS] [{"name": "any", "arguments": {}, "id": "abcdefghi"}]')
    assert read == CallReply(text="", calls=(ToolCall(name="any", arguments={}),))


@pytest.mark.parametrize("found", [LLAMA3_JSON, GEMMA_JSON], ids=lambda found: found.name)
def test_json_after_words_is_an_answer_where_calls_stand_at_the_start(found: ToolFormat) -> None:
    assert parse(found, 'Here: {"a": 1}') == AnswerReply(text='Here: {"a": 1}')


def test_a_brace_is_an_answer_where_no_tools_are_offered() -> None:
    assert parse(GEMMA_JSON, '{"a": 1}', tools=()) == AnswerReply(text='{"a": 1}')


@pytest.mark.parametrize("bad", ["NaN", "1e999", '"\\ud800"', "[" * 100_000], ids=["nan", "inf", "half", "deep"])
def test_a_value_that_cannot_be_stored_is_invalid(bad: str) -> None:
    read = parse(HERMES, '<tool_call>\n{"name": "any", "arguments": {"a": ' + bad + "}}\n</tool_call>")
    assert isinstance(read, InvalidReply)


@pytest.mark.parametrize(
    "parameters", [{"type": 7}, {"properties": []}, {"$ref": "#/nowhere"}, {"additionalProperties": 3}], ids=str
)
def test_a_malformed_schema_makes_an_invalid_call_not_an_exception(parameters: dict[str, Any]) -> None:
    tools = (ToolSpec(name="any", parameters=parameters),)
    read = parse(HERMES, '<tool_call>\n{"name": "any", "arguments": {"a": 1}}\n</tool_call>', tools=tools)
    assert isinstance(read, InvalidReply | CallReply)


def test_wrong_arguments_are_told_by_name() -> None:
    tools = (ToolSpec(name="any", parameters={"type": "object", "required": ["path"]}),)
    read = parse(HERMES, '<tool_call>\n{"name": "any", "arguments": {}}\n</tool_call>', tools=tools)
    assert read == InvalidReply(error="Wrong arguments for any: 'path' is a required property", calls_begun=1)


def test_a_reply_that_ran_out_of_tokens_is_no_answer() -> None:
    assert isinstance(parse(HERMES, "On and on", finish=FinishReason.LENGTH), InvalidReply)
