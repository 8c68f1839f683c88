"""Bound a JSON schema, so that a small model cannot write one digit for ever.

`bounded` narrows: whatever its result admits, the given schema admits too, and every string, number, array and free key
has an end.

Not covered: the depth of a recursive schema, the keys of an object that lists properties and explicitly admits others
too, the overlap of `oneOf` branches, and what lies deeper than 64 levels, which stays as it is. A malformed schema
passes through unharmed: to refuse it is the caller's part.
"""

from collections.abc import Mapping
from typing import Any

MAX_STRING_LENGTH = 512
# Whole numbers up to here are exact in a double, with room for identifiers and times in milliseconds.
MAX_NUMBER = 10**15
# Multiples of it end after nine decimals.
SMALLEST_STEP = 1e-9
MAX_ITEMS = 64
MAX_PROPERTIES = 16
MAX_KEY_LENGTH = 64

_MAX_DEPTH = 64
# A range as narrow as this may lie between two multiples of the smallest step.
_NARROW = 1e-6
_ANY_KEY = f"^.{{1,{MAX_KEY_LENGTH}}}$"
_ANY_NAME = "any_json"
_ANY_REFERENCE = {"$ref": f"#/$defs/{_ANY_NAME}"}
_COMBINATORS = ("anyOf", "oneOf", "allOf")
_ELSEWHERE = (*_COMBINATORS, "$ref", "enum", "const", "not", "if")
_KEYWORDS_OF = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_ANY_JSON: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_STRING_LENGTH},
        {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER, "multipleOf": SMALLEST_STEP},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": _ANY_REFERENCE, "maxItems": MAX_ITEMS},
        {
            "type": "object",
            "patternProperties": {_ANY_KEY: _ANY_REFERENCE},
            "additionalProperties": False,
            "maxProperties": MAX_PROPERTIES,
        },
    ]
}


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `schema` with an end to everything that it admits; the argument is not changed.

    A string gets `maxLength` 512, a number the range of ±10^15 and at most nine decimals, an array `maxItems` 64,
    wherever the schema itself does not say; a place that admits anything gets any JSON so bounded. An object that
    lists its properties and does not mention others admits no others.
    """
    narrowed = _bounded(dict(schema), depth=0, part=False)
    if _mentions_any(narrowed):
        definitions = narrowed.get("$defs")
        narrowed["$defs"] = {**(definitions if isinstance(definitions, dict) else {}), _ANY_NAME: _ANY_JSON}
    return dict(narrowed)


def _bounded(schema: Any, *, depth: int, part: bool) -> Any:
    """Bound one schema; a `part` is combined with its siblings, and must neither close nor fill what it leaves out."""
    if schema is True or schema == {}:
        return schema if part else dict(_ANY_REFERENCE)
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return schema
    narrowed = _inside(schema, depth=depth, part=part)
    types = _types(narrowed)
    if types and "type" not in narrowed and not part:
        narrowed["type"] = types[0]
    for name in types:
        _BOUNDS[name](narrowed, part)
    if not types and not part and not any(key in narrowed for key in _ELSEWHERE):
        return {**narrowed, **_ANY_REFERENCE} if "type" not in narrowed else narrowed
    return narrowed


def _inside(schema: dict[str, Any], *, depth: int, part: bool) -> dict[str, Any]:
    """Bound the schemas that `schema` holds."""
    alone = not any(key in schema for keywords in _KEYWORDS_OF.values() for key in keywords) and "type" not in schema
    narrowed = dict(schema)
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, dict):
            inner = part and not key.startswith(("$", "def"))
            narrowed[key] = {name: _bounded(item, depth=depth + 1, part=inner) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and (isinstance(value, dict) or value is True):
            narrowed[key] = _bounded(value, depth=depth + 1, part=part)
        elif key in (*_COMBINATORS, "prefixItems") and isinstance(value, list):
            inner = part or key == "allOf" or (key in _COMBINATORS and not alone)
            narrowed[key] = [_bounded(item, depth=depth + 1, part=inner) for item in value]
    return narrowed


def _types(schema: dict[str, Any]) -> list[str]:
    """Return the types that need a bound: those named, else the one whose keywords are used, else none."""
    named = schema.get("type")
    if named is not None:
        found = named if isinstance(named, list) else [named]
        return [name for name in found if isinstance(name, str) and name in _BOUNDS]
    if any(key in schema for key in _ELSEWHERE):
        return []
    return [name for name, keywords in _KEYWORDS_OF.items() if any(key in schema for key in keywords)][:1]


def _bound_string(schema: dict[str, Any], part: bool) -> None:
    if "enum" not in schema and "const" not in schema and not _is_number(schema.get("maxLength")):
        schema["maxLength"] = max(MAX_STRING_LENGTH, _number(schema.get("minLength")))


def _bound_number(schema: dict[str, Any], part: bool) -> None:
    if "enum" in schema or "const" in schema:
        return
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if not _is_number(low):
        schema["minimum"] = -max(MAX_NUMBER, -2 * _number(high))
    if not _is_number(high):
        schema["maximum"] = max(MAX_NUMBER, 2 * _number(low))


def _bound_decimal(schema: dict[str, Any], part: bool) -> None:
    _bound_number(schema, part)
    narrow = _number(schema.get("maximum")) - _number(schema.get("minimum")) < _NARROW
    if "enum" not in schema and "const" not in schema and not narrow:
        schema.setdefault("multipleOf", SMALLEST_STEP)


def _bound_array(schema: dict[str, Any], part: bool) -> None:
    if not _is_number(schema.get("maxItems")):
        schema["maxItems"] = max(MAX_ITEMS, _number(schema.get("minItems")))
    if "items" not in schema and not part:
        schema["items"] = dict(_ANY_REFERENCE)


def _bound_object(schema: dict[str, Any], part: bool) -> None:
    if part or any(key in schema for key in (*_COMBINATORS, "$ref")):
        return
    if schema.get("properties") or "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    elif (others := schema.get("additionalProperties", True)) is not False:
        value = dict(_ANY_REFERENCE) if others is True else others
        schema |= {"patternProperties": {_ANY_KEY: value}, "additionalProperties": False}
        schema.setdefault("maxProperties", max(MAX_PROPERTIES, _number(schema.get("minProperties"))))


_BOUNDS = {
    "string": _bound_string,
    "number": _bound_decimal,
    "integer": _bound_number,
    "array": _bound_array,
    "object": _bound_object,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    return value if _is_number(value) else 0


def _mentions_any(schema: Any) -> bool:
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if found.get("$ref") == _ANY_REFERENCE["$ref"]:
                return True
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return False
