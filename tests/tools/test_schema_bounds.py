"""`bounded` narrows a schema and gives everything in it an end; the grammar engine judges."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from koboshi_tools import bounded, builtin_tools

TOKENIZER = LLTokenizer("byte")


def admits(schema: Any, value: str) -> bool:
    """Return whether the grammar of a schema takes a JSON text, byte by byte, to its end."""
    matcher = LLMatcher(TOKENIZER, LLMatcher.grammar_from_json_schema(schema))
    tokens = TOKENIZER.tokenize_str(value)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def under(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


LONG_TEXT, LONG_NUMBER, LONG_FRACTION = json.dumps("x" * 513), "1" * 17, "0." + "3" * 20
ENDLESS = [
    LONG_TEXT,
    LONG_NUMBER,
    LONG_FRACTION,
    "[" + ", ".join("1" for _ in range(65)) + "]",
    f"[{LONG_TEXT}]",
    f'{{"b": {LONG_TEXT}}}',
    f'{{"{"k" * 65}": 1}}',
    f'{{"b": [{{"c": {LONG_NUMBER}}}]}}',
]
OPEN_SCHEMAS: list[Any] = [
    {},
    True,
    {"type": "string"},
    {"type": "number"},
    {"type": "integer"},
    {"type": ["string", "null", "number"]},
    {"type": "array"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"type": "object", "properties": {"b": {}}},
    {"type": "object", "properties": {"b": {"type": "array"}}, "additionalProperties": False},
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}, {"type": "object"}]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"allOf": [{"type": "string"}]},
    {"description": "anything"},
    {"minLength": 3},
    {"minimum": 3},
]


@pytest.mark.parametrize("schema", OPEN_SCHEMAS, ids=json.dumps)
def test_nothing_endless_is_admitted(schema: Any) -> None:
    narrowed = bounded(under(schema))
    for value in ENDLESS:
        assert not admits(narrowed, f'{{"a": {value}}}')


@pytest.mark.parametrize("schema", OPEN_SCHEMAS, ids=json.dumps)
def test_what_is_admitted_was_admitted_before(schema: Any) -> None:
    narrowed = bounded(under(schema))
    for value in ['"abc"', "5", "3.5", "-2", "null", "true", '["x"]', "[1]", '{"b": "x"}', '{"b": []}', '{"c": 1}']:
        if admits(narrowed, f'{{"a": {value}}}'):
            assert admits(under(schema), f'{{"a": {value}}}')


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({}, ['"abc"', "5", "null", '{"b": [1, {"c": "x"}]}']),
        ({"type": "number"}, ["0", "-3.25", "0.000000001", "999999999999999"]),
        ({"type": "number", "minimum": 1e-12, "maximum": 2e-12}, ["0.0000000000015"]),
        ({"type": "integer", "minimum": 10**16}, [str(10**16)]),
        ({"type": "integer", "exclusiveMinimum": 3}, ["4"]),
        ({"type": "string", "minLength": 600}, [json.dumps("x" * 600)]),
        ({"type": "string", "maxLength": 900}, [json.dumps("x" * 900)]),
        ({"type": "string", "enum": ["y" * 600]}, [json.dumps("y" * 600)]),
        ({"type": "string", "format": "date"}, ['"2024-02-29"']),
        ({"const": "z" * 600}, [json.dumps("z" * 600)]),
        ({"type": "array", "minItems": 70, "items": {"type": "integer"}}, ["[" + ", ".join("7" * 70) + "]"]),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}, ['["a", 1]']),
        ({"type": "object"}, ['{"any": 1}', "{}"]),
        ({"type": "object", "properties": {"b": {"type": "string"}}}, ['{"b": "x"}', "{}"]),
        (
            {"type": "object", "properties": {"title": {"type": "string"}, "type": {"type": "string"}}},
            ['{"type": "x"}'],
        ),
        (
            {"allOf": [{"properties": {"b": {"type": "string"}}, "type": "object"}, {"required": ["c"]}]},
            ['{"b": "x", "c": 1}'],
        ),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, ["null", '"x"']),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_what_a_schema_is_for_stays_admitted(schema: Any, values: list[str]) -> None:
    narrowed = bounded(under(schema))
    for value in values:
        assert admits(narrowed, f'{{"a": {value}}}')


def test_references_are_followed_and_may_recur() -> None:
    schema = under({"$ref": "#/$defs/Node"}) | {
        "$defs": {
            "Node": {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/Node"}}}
        }
    }
    narrowed = bounded(schema)
    assert admits(narrowed, '{"a": {"name": "x", "next": {"name": "y"}}}')
    assert not admits(narrowed, f'{{"a": {{"next": {{"name": {LONG_TEXT}}}}}}}')


def test_properties_beside_branches_stay_open_to_them() -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "string"}},
        "anyOf": [{"properties": {"c": {"type": "integer"}}, "required": ["c"]}, {"required": ["b"]}],
    }
    assert admits(bounded(schema), '{"b": "x", "c": 1}')


def test_the_argument_is_not_changed() -> None:
    schema = under({"type": "array", "items": {}})
    before = json.dumps(schema)
    bounded(schema)
    assert json.dumps(schema) == before


def test_bounding_twice_changes_nothing_more() -> None:
    for schema in OPEN_SCHEMAS:
        once = bounded(under(schema))
        assert bounded(once) == once


def test_the_calculators_grammar_lets_only_arithmetic_through() -> None:
    schema = bounded(builtin_tools()["calculator"].spec.parameters)
    assert admits(schema, '{"expression": "(1,000 - 2.5) * 3"}')
    for wrong in ("x + 1", "$4 * 2", "", "1" * 81, "1\\n"):
        assert not admits(schema, json.dumps({"expression": wrong}))


KEYS = (
    "type properties items anyOf allOf oneOf $ref $defs enum const minLength maxLength minimum maximum minItems "
    "additionalProperties patternProperties prefixItems required not pattern format"
).split()
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["string", "object", "array", "number"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
def test_no_schema_however_malformed_stops_it(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    json.dumps(bounded(schema))
    assert json.dumps(schema) == before


def test_a_schema_nested_deeper_than_is_looked_at_passes_through() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        schema = under(schema)
    assert bounded(schema)["type"] == "object"
