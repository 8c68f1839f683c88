"""Make the JSON schema of a tool small: it is prompt text, and a small model reads it in every run.

Titles go, keys stand in their usual order, references that do not recur are written out, and a parameter whose
default is null is one that may be left out. What the schema admits stays the same, but for that null.
"""

from collections.abc import Mapping
from typing import Any

_PREFIX = "#/$defs/"
# The order in which published tool-calling templates show a schema; models have seen it so.
_FIRST = ("type", "description", "enum", "items", "properties", "required")
_DATA = ("default", "enum", "const", "examples")


def compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a small schema that admits what `schema` admits; the argument is not changed."""
    definitions = dict(schema.get("$defs", {}))
    recurring = {name for name in definitions if name in _reachable(name, definitions)}
    written_out = {name: value for name, value in definitions.items() if name not in recurring}
    small = _compact({key: value for key, value in schema.items() if key != "$defs"}, written_out)
    if recurring:
        small["$defs"] = {name: _compact(definitions[name], written_out) for name in sorted(recurring)}
    return dict(small)


def _compact(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_compact(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    name = _referred(schema)
    if name in definitions:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _compact({**definitions[name], **rest}, definitions)
    keys = [key for key in _FIRST if key in schema] + [key for key in schema if key not in (*_FIRST, "title")]
    return {key: _keyword(key, schema[key], definitions) for key in keys}


def _keyword(key: str, value: Any, definitions: Mapping[str, Any]) -> Any:
    if key in _DATA:
        return value
    if key == "properties":
        return {field: _compact(_without_null(item), definitions) for field, item in value.items()}
    return _compact(value, definitions)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema` without the null that only says that the parameter may be left out."""
    if "default" not in schema or schema["default"] is not None:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("default", "anyOf")}
    branches = [branch for branch in schema.get("anyOf", []) if branch != {"type": "null"}]
    if len(branches) == 1:
        return {**branches[0], **rest}
    return {**rest, "anyOf": branches} if branches else rest


def _referred(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(_PREFIX)


def _reachable(name: str, definitions: Mapping[str, Any]) -> set[str]:
    """Return the definitions that one needs, itself among them only if it recurs."""
    reached: set[str] = set()
    waiting: list[Any] = [definitions[name]]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            other = _referred(found)
            if other in definitions and other not in reached:
                reached.add(other)
                waiting.append(definitions[other])
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return reached
