"""What each kind of checker calls right and wrong."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime.checkers import Checker, Finished, judge, last_number, schema_problems
from koboshi_runtime.records import OutcomeLabel, OutcomeSource
from koboshi_runtime.tasks import parse_task
from koboshi_tools import ToolCall, canonical_json


def checker(**fields: Any) -> Checker:
    found = parse_task(canonical_json({"id": "a", "prompt": "x", "checker": fields})).checker
    assert found is not None
    return found


def right(said: str | None, /, **fields: Any) -> bool:
    return judge(checker(**fields), Finished(said)).label is OutcomeLabel.SUCCESS


def called(accept: list[Any], *calls: tuple[str, dict[str, Any]]) -> bool:
    made = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in calls)
    outcome = judge(checker(kind="tool_call", accept=accept), Finished(None, made))
    return outcome.label is OutcomeLabel.SUCCESS


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 5.", "5"),
        ("$1,234.50", "1234.50"),
        ("It is -$5", "-5"),
        ("$-5", "-5"),
        ("€ 12", "12"),
        ("10-12", "12"),
        ("10 - 12", "12"),
        ("(5)-2", "2"),
        ("minus −5 degrees", "-5"),
        ("it is 7%", "7"),
        ("1.5e3", "1500"),
        ("5kg", "5"),
        ("3e", "3"),
        ("1, 2, 3", "3"),
        ("1,00,000 rupees", "100000"),
        (".5", "0.5"),
        ("5.0.", "5"),
        ("2024-01-05", "5"),
        ("\\boxed{42}", "42"),
        ("first 3, then nothing", "3"),
    ],
)
def test_the_last_number_of_an_answer(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "five", "٣", "-"])
def test_a_text_without_a_number(text: str) -> None:
    assert last_number(text) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_number_with_commas_is_read_back(value: Decimal) -> None:
    assert last_number(f"So we have {value:,} euros.") == value


def test_number_ignores_everything_but_the_last_number() -> None:
    assert right("7 of 12 remain: $1,204.00.", kind="number", answer="1204")
    assert not right("1204 of 12", kind="number", answer="1204")
    assert not right("none", kind="number", answer="0")


def test_the_tolerance_is_absolute_unless_a_relative_one_is_given() -> None:
    assert right("1000000.00009", kind="number", answer=1000000)
    assert not right("1000001", kind="number", answer=1000000)
    assert right("101", kind="number", answer=100, relative_tolerance=0.01)
    assert not right("101.1", kind="number", answer=100, relative_tolerance=0.01)
    assert right("3.2", kind="number", answer=3, tolerance=0.2)


def test_exact_forgives_only_outer_white_space() -> None:
    assert right(" Paris\n", kind="exact", answer="Paris")
    assert not right("paris", kind="exact", answer="Paris")
    assert not right("Paris.", kind="exact", answer="Paris")


def test_regex_searches_the_whole_answer() -> None:
    assert right("She lives in PARIS.", kind="regex", pattern=r"(?i)\bparis\W*$")
    assert not right("Paris or Rome", kind="regex", pattern=r"(?i)\bparis\W*$")


def test_one_of_forgives_case_spaces_and_a_full_stop() -> None:
    assert right(" the  Netherlands. ", kind="one_of", answers=["Holland", "The Netherlands"])
    assert not right("the Netherlands, I think", kind="one_of", answers=["The Netherlands"])


def test_json_compares_by_value_and_by_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    assert right('{"a": 5.0, "b": null}', kind="json", answer={"b": None, "a": 5})
    assert right("```json\n[1]\n```", kind="json", answer=[1])
    assert not right("[true]", kind="json", answer=[1])
    assert right('{"n": 3}', kind="json", schema=schema)
    assert not right('{"n": 2}', kind="json", schema=schema)
    assert not right('{"n": 3, "n": 4}', kind="json", schema=schema)
    assert not right("three", kind="json", schema=schema)
    assert right("null", kind="json", answer=None)


@pytest.mark.parametrize(
    ("value", "schema", "kept"),
    [
        (1.0, {"type": "integer"}, True),
        (True, {"type": "integer"}, False),
        ("ab", {"type": "string", "maxLength": 1}, False),
        ("ab", {"pattern": "^a"}, True),
        ([1, 1.0], {"uniqueItems": True}, False),
        ([1, "a"], {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, True),
        ({"a": 1}, {"additionalProperties": False}, False),
        ({"a": 1}, {"$defs": {"n": {"type": "number"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}, True),
        ({"a": "x"}, {"$defs": {"n": {"type": "number"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}, False),
        (3, {"anyOf": [{"type": "string"}, {"minimum": 3}]}, True),
        (3, {"oneOf": [{"type": "integer"}, {"minimum": 3}]}, False),
        (0.3, {"multipleOf": 0.1}, True),
        (3, {"not": {"const": 3.0}}, False),
        (None, {"type": ["string", "null"]}, True),
        ("x", {"enum": ["y"]}, False),
    ],
)
def test_schemas(value: Any, schema: dict[str, Any], kept: bool) -> None:
    assert (schema_problems(value, schema) == ()) is kept


ADD = {"name": "math.add", "arguments": {"a": [5], "b": [2, "two"], "unit": ["", "cm"]}}


def test_the_accepted_call_is_right_and_an_optional_argument_may_be_left_out() -> None:
    assert called([ADD], ("math.add", {"a": 5.0, "b": " TWO "}))
    assert called([ADD], ("math.add", {"a": 5, "b": 2, "unit": "CM"}))


@pytest.mark.parametrize(
    "arguments",
    [{"a": 5}, {"a": 6, "b": 2}, {"a": 5, "b": 2, "c": 1}, {"a": "5", "b": 2}, {"a": 5, "b": 2, "unit": "m"}, {}],
)
def test_a_call_with_other_arguments_is_wrong(arguments: dict[str, Any]) -> None:
    assert not called([ADD], ("math.add", arguments))


def test_a_call_of_another_name_is_wrong() -> None:
    assert not called([ADD], ("math_add", {"a": 5, "b": 2}))


def test_true_is_not_one() -> None:
    assert not called([{"name": "f", "arguments": {"x": [1]}}], ("f", {"x": True}))


def test_values_are_compared_inside_lists_and_objects() -> None:
    accept = [{"name": "f", "arguments": {"x": [[{"City": " Paris", "n": 1}]]}}]
    assert called(accept, ("f", {"x": [{"n": 1.0, "City": "PARIS "}]}))
    assert not called(accept, ("f", {"x": [{"n": 1.0, "city": "PARIS "}]}))
    assert not called(accept, ("f", {"x": []}))


def test_calls_may_come_in_any_order_but_no_other_may() -> None:
    one, two = {"name": "f", "arguments": {"x": [1, 2]}}, {"name": "f", "arguments": {"x": [1]}}
    assert called([one, two], ("f", {"x": 1}), ("f", {"x": 2}))
    assert called([two, one], ("f", {"x": 2}), ("f", {"x": 1}))
    assert not called([one, two], ("f", {"x": 2}), ("f", {"x": 2}))
    assert not called([one, two], ("f", {"x": 1}))
    assert not called([one], ("f", {"x": 1}), ("f", {"x": 1}))


def test_no_call_is_right_where_none_is_accepted() -> None:
    assert called([])
    assert not called([], ("f", {}))


def test_no_answer_is_a_failure() -> None:
    assert not right(None, kind="number", answer=1)
    assert not right(None, kind="regex", pattern="")


def test_a_run_that_did_not_end_by_itself_has_failed() -> None:
    outcome = judge(checker(kind="tool_call", accept=[]), Finished(None, ended_ok=False))
    assert outcome.label is OutcomeLabel.FAILURE


def test_an_outcome_names_its_source_its_kind_and_the_value_seen() -> None:
    outcome = judge(checker(kind="number", answer=4), Finished("It is 5."))
    assert (outcome.source, outcome.who, outcome.rationale) == (OutcomeSource.CHECKER, "number", "5 is not 4")
