"""Functions that a task brings with it: read from the shapes in use, returned in ours.

Taken in: OpenAI's wrapper `{"type": "function", "function": {...}}` and the bare `{"name", "description",
"parameters"}`. The type names of other schema dialects (`dict`, `float`, `tuple`, `any`, ...) become those of JSON
Schema, at every depth and only where a type stands: an argument that is called "type" keeps its name.
"""

from collections.abc import Mapping
from typing import Any

from koboshi_tools import ToolSpec

_TYPES: dict[str, str | None] = {
    name: name for name in ("object", "array", "string", "number", "integer", "boolean", "null")
}
_TYPES |= {
    **dict.fromkeys(("dict", "hashmap", "map"), "object"),
    **dict.fromkeys(("list", "tuple", "arraylist", "set", "queue", "stack"), "array"),
    **dict.fromkeys(("str", "char"), "string"),
    **dict.fromkeys(("float", "double"), "number"),
    **dict.fromkeys(("int", "long", "short", "byte", "bigint"), "integer"),
    "bool": "boolean",
    "none": "null",
    "any": None,
}
_SCHEMA_KEYS = ("items", "additionalProperties", "not", "contains")
_SCHEMA_LIST_KEYS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMA_MAP_KEYS = ("properties", "$defs", "definitions", "patternProperties")
_MAX_NAME = 200


def read_tool_spec(value: Any) -> ToolSpec:
    """Return the function that `value` describes; ValueError says what is wrong with it."""
    if isinstance(value, ToolSpec):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"a tool spec is an object, not {type(value).__name__}")
    function = value["function"] if value.get("type") == "function" and "function" in value else value
    if not isinstance(function, Mapping):
        raise ValueError("the tool spec's 'function' is not an object")
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not isinstance(description, str):
        raise ValueError(f"a tool spec needs a name (text) and may have a description (text); its name is {name!r}")
    return ToolSpec(name=name, description=description, parameters=_parameters(name, function.get("parameters")))


def _parameters(name: str, schema: Any) -> dict[str, Any]:
    try:
        plain = as_json_schema(schema or {})
    except ValueError as error:
        raise ValueError(f"the parameters of {name!r}: {error}") from error
    if not isinstance(plain, dict) or plain.setdefault("type", "object") != "object":
        raise ValueError(f"the parameters of {name!r} are not a schema of type object")
    plain.setdefault("properties", {})
    return plain


def as_json_schema(schema: Any) -> Any:
    """Return `schema` with the type names of JSON Schema; a bool stays as it is, an unknown type is a ValueError."""
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise ValueError(f"a schema is an object, not {type(schema).__name__}")
    plain = {key: _keyword(key, value) for key, value in schema.items()}
    return {key: value for key, value in plain.items() if not (key == "type" and value is None)}


def _keyword(key: str, value: Any) -> Any:
    if key == "type":
        return _type(value)
    if key in _SCHEMA_KEYS and isinstance(value, Mapping):
        return as_json_schema(value)
    if key in (*_SCHEMA_LIST_KEYS, "items") and isinstance(value, list):
        return [as_json_schema(item) for item in value]
    if key in _SCHEMA_MAP_KEYS:
        if not isinstance(value, Mapping):
            raise ValueError(f"{key!r} is not an object")
        return {name: as_json_schema(item) for name, item in value.items()}
    return value


def _type(value: Any) -> Any:
    if isinstance(value, list):
        types = [_type(item) for item in value]
        return None if None in types else types
    if not isinstance(value, str) or value.casefold() not in _TYPES:
        raise ValueError(f"unknown type {value!r}")
    return _TYPES[value.casefold()]
