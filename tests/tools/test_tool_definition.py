"""`@tool`: the schema that a signature gives, and what it refuses."""

from dataclasses import replace
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from koboshi_tools import EffectClass, Tool, ToolContext, UsageError, builtin_tools, canonical_json, tool
from koboshi_tools.arguments import InvalidArgumentsError, argument_descriptions


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: int = 0


class Tree(BaseModel):
    below: list["Tree"] = []


def properties(made: Tool) -> dict[str, Any]:
    return dict(made.spec.parameters["properties"])


def test_signature_and_docstring_make_the_spec() -> None:
    @tool
    def order_status(order_id: int, context: ToolContext, detail: Literal["short", "long"] = "short") -> str:
        """Look up an order
        by its number.

        More that the model need not read.

        Args:
            order_id: the number on
                the bill.
            detail (str): how much to say.

        Returns:
            detail: not an argument.
        """
        return f"{order_id} {detail} {context.workspace}"

    assert order_status.spec.name == "order_status"
    assert order_status.spec.description == "Look up an order by its number."
    assert order_status.spec.parameters == {
        "type": "object",
        "properties": {
            "order_id": {"type": "integer", "description": "the number on the bill."},
            "detail": {
                "type": "string",
                "enum": ["short", "long"],
                "default": "short",
                "description": "how much to say.",
            },
        },
        "required": ["order_id"],
        "additionalProperties": False,
    }


def test_types_are_described_small() -> None:
    @tool
    def paint(
        title: Annotated[str, Field(max_length=20, pattern="^[a-z]+$")],
        colour: Colour,
        points: list[Point],
        share: Annotated[float, Field(ge=0, le=1)] = 0.5,
        note: str | None = None,
        schema: Annotated[bool, Field(description="own words")] = False,
    ) -> None:
        """Paint.

        Args:
            note: anything
            schema: not these
        """

    assert properties(paint) == {
        "title": {"type": "string", "maxLength": 20, "pattern": "^[a-z]+$"},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "points": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
                "required": ["x"],
            },
        },
        "share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
        "note": {"type": "string", "description": "anything"},
        "schema": {"type": "boolean", "default": False, "description": "own words"},
    }


def test_a_recursive_type_keeps_its_reference() -> None:
    @tool
    def grow(tree: Tree) -> None:
        """Grow."""

    assert properties(grow) == {"tree": {"$ref": "#/$defs/Tree"}}
    assert list(grow.spec.parameters["$defs"]) == ["Tree"]


def test_arguments_are_checked_and_become_values() -> None:
    @tool
    def paint(colour: Colour, points: list[Point], model_config: int = 1) -> None:
        """Paint."""

    bound = paint.arguments.bind({"colour": "red", "points": [{"x": 1}]})
    assert bound == {"colour": Colour.RED, "points": [Point(x=1)], "model_config": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing argument 'query'"),
        ({"query": "a", "quary": "b"}, "unknown argument 'quary'"),
        ({"query": 5}, "query: input should be a valid string"),
        ({"query": "x" * 401}, "query: string should have at most 400 characters"),
        ({"query": None}, "query: input should be a valid string"),
    ],
)
def test_bad_arguments_are_named_for_the_model(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        builtin_tools()["sql"].arguments.bind(arguments)
    assert str(refused.value) == said


def test_not_a_number_is_no_number() -> None:
    @tool
    def halve(value: float) -> float:
        """Halve."""
        return value / 2

    for value in (float("nan"), float("inf")):
        with pytest.raises(InvalidArgumentsError, match="not JSON"):
            halve.arguments.bind({"value": value})


@pytest.mark.parametrize("value", ["5", 5.5, 5.0, True, None, [5], "\ud800"])
def test_no_value_is_converted_behind_a_policys_back(value: Any) -> None:
    @tool
    def count(number: int) -> int:
        """Count."""
        return number

    with pytest.raises(InvalidArgumentsError):
        count.arguments.bind({"number": value})


def test_effect_version_and_name_are_taken_over() -> None:
    @tool(effect="write", idempotent=True, version="2.1", name="notes.add", sandbox=False)
    def add(text: str) -> None:
        """Add a note."""

    assert (add.effect, add.idempotent, add.version, add.spec.name) == (EffectClass.WRITE, True, "2.1", "notes.add")


def test_a_tool_that_reads_may_be_repeated_and_one_that_writes_may_not() -> None:
    @tool
    def look() -> None:
        """Look."""

    @tool(effect="write", sandbox=False)
    def move() -> None:
        """Move."""

    assert (look.idempotent, move.idempotent) == (True, False)


def test_the_digest_follows_code_and_spec() -> None:
    def made(source: str) -> str:
        names: dict[str, Any] = {"tool": tool}
        exec(source, names)
        return str(names["f"].digest)

    base = '@tool\ndef f(x: int) -> int:\n    """Do."""\n    return x + 1\n'
    assert made(base) == made(base)
    changed = [
        base.replace("+ 1", "+ 2"),
        base.replace("Do", "Make"),
        base.replace("@tool", "@tool(effect='net', sandbox=False)"),
    ]
    assert len({made(base), *map(made, changed)}) == 4


def no_docstring(x: int) -> int:
    return x


def not_annotated(x) -> int:  # type: ignore[no-untyped-def]
    """Do."""
    return int(x)


def starred(*x: int) -> None:
    """Do."""


def keywords(**x: int) -> None:
    """Do."""


def positional(x: int, /) -> None:
    """Do."""


def no_json(x: replace) -> None:  # type: ignore[valid-type]
    """Do."""


def bad_pattern(x: Annotated[str, Field(pattern="(")]) -> None:
    """Do."""


def unknown_name(x: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do."""


@pytest.mark.parametrize(
    "function",
    [no_docstring, not_annotated, starred, keywords, positional, no_json, bad_pattern, unknown_name],
    ids=lambda function: function.__name__,
)
def test_a_function_that_cannot_be_described_is_refused_by_name(function: Any) -> None:
    with pytest.raises(UsageError, match=function.__name__) as refused:
        tool(function)
    assert refused.value.hint


@pytest.mark.parametrize("name", ["", "two words", "a*", "x" * 65, "é"])
def test_a_name_that_a_policy_or_a_prompt_could_misread_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a tool's name"):
        tool(name=name or "\n")(starred)


def test_a_reading_tool_that_may_not_be_repeated_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match="only reads"):
        tool(idempotent=False)(starred)


def test_built_in_specs_stay_short() -> None:
    for made in builtin_tools().values():
        assert len(canonical_json(made.spec.model_dump(mode="json"))) < 450
        assert "title" not in canonical_json(made.spec.parameters)


def test_keys_stand_in_their_usual_order() -> None:
    parameters = builtin_tools()["files_read"].spec.parameters
    assert list(parameters) == ["type", "properties", "required", "additionalProperties"]
    assert list(parameters["properties"]) == ["path", "start_line", "lines"]
    assert next(iter(parameters["properties"]["path"])) == "type"


def test_argument_descriptions_end_with_their_section() -> None:
    assert argument_descriptions(
        "Do.\n\nArgs:\n    a: one\n    b: two\n        more: still two\n\nRaises:\n    c: no"
    ) == {
        "a": "one",
        "b": "two more: still two",
    }
    assert argument_descriptions("Do.") == {}
