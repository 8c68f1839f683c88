"""Whatever tokens are drawn under the guard's mask, the reply is calls that their schemas accept."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koboshi_runtime.formats import FORMATS, HERMES, LLAMA3_JSON, ToolFormat
from koboshi_runtime.llama import Vocabulary, load_vocabulary, start_backend
from koboshi_runtime.model import Constraint, FinishReason, PromptProfile
from koboshi_runtime.parse import CallReply, parse_reply
from koboshi_runtime.worker.constraint import Grammars, Guard
from koboshi_tools import ToolSpec

pytestmark = [pytest.mark.slow, pytest.mark.model]

TEMPLATE_OF = {"hermes": "chatml", "llama3_json": "llama3", "mistral": "mistral", "gemma_json": "gemma"}
LEADS = {"hermes": "I look.\n<tool_call>\n", "llama3_json": '{"', "mistral": "[TOOL_CALLS] [", "gemma_json": "{"}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    names = list(properties)
    return {"type": "object", "properties": properties, "required": names[:1], "additionalProperties": False}


leaves = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 5},
        {"type": "string", "enum": ["a", "<tool_call>", "é\n"]},
        {"type": "integer", "minimum": -3, "maximum": 40},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"const": {"x": [1, None]}},
        {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 3))
        | st.dictionaries(st.sampled_from(["a", "b c", 'd"é']), inner, max_size=3).map(closed)
    ),
    max_leaves=5,
)


parameters = st.dictionaries(st.sampled_from(["path", "n", "x.y"]), schemas, max_size=3).map(closed)
tools = st.lists(parameters, min_size=1, max_size=3).map(
    lambda made: tuple(ToolSpec(name=f"tool.{number}", parameters=one) for number, one in enumerate(made))
)


@pytest.fixture(scope="module")
def vocabulary(smollm2_gguf: Path) -> Vocabulary:
    start_backend()
    return Vocabulary(load_vocabulary(smollm2_gguf))


@pytest.fixture(scope="module")
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary)


def write(grammars: Grammars, guard: Guard, lead: str, dice: random.Random, most: int = 1500) -> str | None:
    """Play a model that writes `lead` and then draws any allowed token, the closing ones more often."""
    vocabulary = grammars.vocabulary
    ids = []
    for token in vocabulary.tokenize(lead):
        if guard.open:
            break
        ids += [token, *guard.take(token)]
    closers = [vocabulary.tokenize(text)[0] for text in ('"', "}", "]", '"}', "\n", "0")]
    while len(ids) < most:
        mask = guard.mask()
        assert mask is not None
        assert mask.any()
        asked = [*closers, *dice.sample(range(vocabulary.size), 5), *map(int, dice.choices(mask.nonzero()[0], k=2))]
        known = {token: guard.allows(token) for token in (*asked, *vocabulary.end_ids())}
        assert all(known[token] == mask[token] for token in asked if not vocabulary.is_end(token))
        assert not any(known[token] and not mask[token] for token in vocabulary.end_ids())
        likely = [token for token in (*closers, *vocabulary.end_ids()) if mask[token]]
        token = dice.choice(likely) if likely and dice.random() < 0.6 else int(dice.choice(mask.nonzero()[0]))
        if vocabulary.is_end(token):
            return b"".join(vocabulary.piece(token) for token in ids).decode("utf-8", "replace")
        ids += [token, *guard.take(token)]
    return None


@pytest.mark.parametrize("found", FORMATS.values(), ids=lambda found: found.name)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(offered=tools, seed=st.integers(0, 2**32), must_call=st.booleans())
def test_any_allowed_tokens_make_calls_that_are_read_and_accepted(
    grammars: Grammars, found: ToolFormat, offered: tuple[ToolSpec, ...], seed: int, must_call: bool
) -> None:
    guard = grammars.guard(Constraint(tool_format=found.name, tools=offered, max_calls=2, must_call=must_call))
    text = write(grammars, guard, "" if must_call else LEADS[found.name], random.Random(seed))
    assert text is not None
    profile = PromptProfile(template=TEMPLATE_OF[found.name], tool_format=found.name)
    read = parse_reply(profile, text, FinishReason.STOP, offered)
    assert isinstance(read, CallReply), (text, read)
    assert 1 <= len(read.calls) <= 2


def test_free_text_is_not_masked(grammars: Grammars, vocabulary: Vocabulary) -> None:
    guard = grammars.guard(Constraint(tool_format=HERMES.name, tools=(ToolSpec(name="t", parameters={}),)))
    for token in vocabulary.tokenize('The answer is {"a": 1} and a tool call would be <tool'):
        assert guard.take(token) == []
        assert guard.mask() is None


@pytest.mark.parametrize("lead", ["", "\n", "<|python_tag|>", " <|python_tag|> "])
def test_a_call_of_llama_is_held_to_its_schema_behind_its_mark_too(
    grammars: Grammars, vocabulary: Vocabulary, lead: str
) -> None:
    guard = grammars.guard(Constraint(tool_format=LLAMA3_JSON.name, tools=(ToolSpec(name="t", parameters={}),)))
    for token in vocabulary.tokenize(lead + "{"):
        guard.take(token)
    assert guard.open


def test_a_token_that_opens_a_call_against_the_grammar_leaves_the_text_free(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    guard = grammars.guard(Constraint(tool_format=LLAMA3_JSON.name, tools=(ToolSpec(name="t", parameters={}),)))
    token = next(token for token in range(vocabulary.size) if vocabulary.piece(token) in (b"{}", b"{{"))
    assert guard.take(token) == []
    assert guard.mask() is None


@pytest.mark.parametrize("found", [HERMES, LLAMA3_JSON], ids=lambda found: found.name)
def test_a_call_in_a_thought_is_free_and_the_one_behind_it_is_not(
    grammars: Grammars, vocabulary: Vocabulary, found: ToolFormat
) -> None:
    guard = grammars.guard(Constraint(tool_format=found.name, tools=(ToolSpec(name="t", parameters={}),)))
    for token in vocabulary.tokenize('<think>Maybe <tool_call>\n{"name": "t"}? No.'):
        guard.take(token)
        assert not guard.open
    for token in vocabulary.tokenize("</think>\n" + ("<tool_call>" if found is HERMES else "{")):
        if not guard.open:
            guard.take(token)
    assert guard.open
