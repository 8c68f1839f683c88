"""Whether a value keeps a JSON schema, and where it does not.

Covered: the keywords of `_COVERED`, with `$ref` to places inside the schema. Any other keyword that asserts something
is not: `uncovered` names it, so that a checker that relies on it is refused and does not pass by silence.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sized
from fractions import Fraction
from typing import Any

from .values import same_json

_COVERED = frozenset(
    "type enum const properties required additionalProperties items prefixItems minItems maxItems uniqueItems "
    "minLength maxLength pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf anyOf oneOf allOf not "
    "$ref $defs definitions".split()
)
_NOTES = frozenset("title description default examples format $schema $id $comment optional deprecated strict".split())
_SIZES: tuple[tuple[str, type[Sized], Callable[[int, int], bool]], ...] = (
    ("minLength", str, int.__ge__),
    ("maxLength", str, int.__le__),
    ("minItems", list, int.__ge__),
    ("maxItems", list, int.__le__),
)
_BOUNDS: tuple[tuple[str, Callable[[Fraction, Fraction], bool]], ...] = (
    ("minimum", Fraction.__ge__),
    ("maximum", Fraction.__le__),
    ("exclusiveMinimum", Fraction.__gt__),
    ("exclusiveMaximum", Fraction.__lt__),
)


def schema_problems(value: Any, schema: Any) -> tuple[str, ...]:
    """Return one sentence for each place where `value` breaks `schema`; empty if it keeps it."""
    return tuple(_problems(value, schema, schema, "value"))


def uncovered(schema: Any) -> tuple[str, ...]:
    """Return the keywords of `schema`, at any depth, that `schema_problems` would not look at."""
    if not isinstance(schema, Mapping):
        return ()
    found = [key for key in schema if key not in _COVERED | _NOTES]
    for key in ("properties", "$defs", "definitions"):
        found += [name for item in schema.get(key, {}).values() for name in uncovered(item)]
    for key in ("items", "additionalProperties", "not"):
        found += uncovered(schema.get(key))
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        found += [name for item in schema.get(key, ()) for name in uncovered(item)]
    return tuple(dict.fromkeys(found))


def _problems(value: Any, schema: Any, root: Any, where: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{where} is not allowed"
        return
    if "$ref" in schema:
        yield from _problems(value, _resolve(schema["$ref"], root), root, where)
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if types and not any(_is(value, name) for name in types):
        yield f"{where} is not of type {' or '.join(types)}"
        return
    yield from _plain(value, schema, where)
    yield from _combined(value, schema, root, where)
    if isinstance(value, dict):
        yield from _object(value, schema, root, where)
    if isinstance(value, list):
        yield from _array(value, schema, root, where)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "null": type(None)}
    return name in kinds and isinstance(value, kinds[name])  # type: ignore[arg-type]  # mypy joins the values to object


def _plain(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if "enum" in schema and not any(same_json(value, item) for item in schema["enum"]):
        yield f"{where} is none of {schema['enum']!r}"
    if "const" in schema and not same_json(value, schema["const"]):
        yield f"{where} is not {schema['const']!r}"
    for key, kind, holds in _SIZES:
        if key in schema and isinstance(value, kind) and not holds(len(value), int(schema[key])):
            yield f"{where} breaks {key} {schema[key]}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where} does not match {schema['pattern']!r}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, schema, where)


def _number(value: float, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    exact = Fraction(str(value))
    for key, holds in _BOUNDS:
        if key in schema and not holds(exact, Fraction(str(schema[key]))):
            yield f"{where} breaks {key} {schema[key]}"
    if "multipleOf" in schema and exact % Fraction(str(schema["multipleOf"])):
        yield f"{where} is no multiple of {schema['multipleOf']}"


def _combined(value: Any, schema: Mapping[str, Any], root: Any, where: str) -> Iterator[str]:
    def kept(key: str) -> list[bool]:
        return [not any(_problems(value, item, root, where)) for item in schema[key]]

    for item in schema.get("allOf", ()):
        yield from _problems(value, item, root, where)
    if "anyOf" in schema and not any(kept("anyOf")):
        yield f"{where} keeps none of anyOf"
    if "oneOf" in schema and sum(kept("oneOf")) != 1:
        yield f"{where} keeps {sum(kept('oneOf'))} of oneOf, not one"
    if "not" in schema and not any(_problems(value, schema["not"], root, where)):
        yield f"{where} keeps what it must not"


def _object(value: dict[str, Any], schema: Mapping[str, Any], root: Any, where: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where} lacks {name!r}"
    for name, item in value.items():
        inner = properties[name] if name in properties else schema.get("additionalProperties", True)
        yield from _problems(item, inner, root, f"{where}.{name}")


def _array(value: list[Any], schema: Mapping[str, Any], root: Any, where: str) -> Iterator[str]:
    first = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        inner = first[index] if index < len(first) else schema.get("items", True)
        yield from _problems(item, inner, root, f"{where}[{index}]")
    if schema.get("uniqueItems") and any(same_json(a, b) for i, a in enumerate(value) for b in value[:i]):
        yield f"{where} holds an item twice"


def _resolve(reference: str, root: Any) -> Any:
    node = root
    for part in reference.removeprefix("#/").split("/") if reference != "#" else []:
        node = node[part.replace("~1", "/").replace("~0", "~")] if isinstance(node, Mapping) and part in node else False
    return node
