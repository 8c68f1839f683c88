"""The tools of a server, as it described them: text that somebody else wrote.

A description is data. It is cut to a length, loses what a terminal could act on, and says nothing about what the tool
may do: its effect is the operator's word, else the widest that such a server can have. A definition that is too large
or describes no arguments is left out, with the reason.

Not covered: a description that talks to the model. It is read before it is accepted, and pinned.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jsonschema
from pydantic import ConfigDict, Field

from ..canonical import canonical_json, hash_bytes, hash_value
from ..compact import compact
from ..values import EffectClass, Frozen, ToolSpec
from .servers import HttpServer, McpServer

MAX_DESCRIPTION = 1000
MAX_ARGUMENT_DESCRIPTION = 300
# A small model reads the schemas of all its tools in every run; a larger one than this is not for it.
MAX_SCHEMA_BYTES = 16_384
# With a description that nobody would read to its end, and a schema of the output.
MAX_DEFINITION_BYTES = 65_536
# Within what Python's own recursion can walk, with room.
_MAX_DEPTH = 40
_MAX_NAME = 64
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_DROPPED_KEYS = ("$schema", "$comment", "$id", "examples")
_DATA = ("enum", "const", "default", "required")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")


class Definition(Frozen):
    """A tool as its server describes it, word for word; its digest is what is pinned."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    name: str
    description: str = ""
    input_schema: dict[str, Any] = Field(alias="inputSchema")
    output_schema: dict[str, Any] | None = Field(default=None, alias="outputSchema")
    annotations: dict[str, Any] = Field(default_factory=dict)
    execution: dict[str, Any] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The hash of all of it. Raises ValueError for what is not JSON."""
        return hash_value(self.model_dump(mode="json"))


class Listed(Frozen):
    """What a server offers: its own word for its version, its definitions, and why others were left out."""

    version: str
    definitions: tuple[Definition, ...]
    left_out: tuple[str, ...] = ()


def listed(version: str, definitions: Iterable[Definition]) -> Listed:
    """Return the definitions that can be used; of several with one name the first."""
    kept: dict[str, Definition] = {}
    left_out: list[str] = []
    for definition in definitions:
        reason = "its name is taken" if definition.name in kept else _problem(definition)
        if reason:
            left_out.append(f"{clean(definition.name, _MAX_NAME)}: {reason}")
        else:
            kept[definition.name] = definition
    return Listed(version=clean(version, _MAX_NAME), definitions=tuple(kept.values()), left_out=tuple(left_out))


def tool_name(server: str, own: str) -> str:
    """Return `mcp__server__tool`; a name with other characters, or too long, ends in a hash of what it was."""
    name = f"mcp__{server}__{own}"
    if _SAFE_NAME.fullmatch(name):
        return name
    mark = "_" + hash_bytes(own.encode("utf-8", "surrogatepass")).removeprefix("sha256:")[:8]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[: _MAX_NAME - len(mark)] + mark


def tool_spec(server: str, definition: Definition) -> ToolSpec:
    """Return what a model is told of a tool."""
    schema = compact(_cleaned(definition.input_schema))
    schema.setdefault("type", "object")
    schema.setdefault("properties", {})
    description = clean(definition.description, MAX_DESCRIPTION)
    return ToolSpec(name=tool_name(server, definition.name), description=description, parameters=schema)


def effect_of(server: McpServer, definition: Definition) -> EffectClass:
    """Return what a tool may do: what the operator said of it, else of its server, else the widest.

    What its server says of it can only take away: a word on the whole server that it only reads does not hold for a
    tool that says itself that it does more.
    """
    options = server.koboshi
    for glob, effect in options.effects.items():
        if fnmatchcase(definition.name, glob):
            return effect
    widest = EffectClass.NET if isinstance(server, HttpServer) else EffectClass.EXEC
    if options.effect is EffectClass.READ and _says_more(definition.annotations):
        return widest
    return options.effect or widest


def clean(text: str, width: int) -> str:
    """Return text on one line without what a terminal could act on, cut to `width` characters."""
    # What is far beyond the cut cannot matter, and may be a hundred megabytes.
    shown = "".join(" " if unicodedata.category(one) in _UNSAFE_CATEGORIES else one for one in text[: 4 * width])
    shown = " ".join(shown.split())
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def _says_more(annotations: Mapping[str, Any]) -> bool:
    return annotations.get("readOnlyHint") is False or annotations.get("destructiveHint") is True


def _problem(definition: Definition) -> str | None:
    schema, whole = definition.input_schema, definition.model_dump(mode="json")
    if not definition.name:
        return "it has no name"
    if _depth(whole) > _MAX_DEPTH:
        return f"its schema is more than {_MAX_DEPTH} levels deep"
    try:
        for what, value, limit in (("definition", whole, MAX_DEFINITION_BYTES), ("schema", schema, MAX_SCHEMA_BYTES)):
            if (size := len(canonical_json(value).encode())) > limit:
                return f"its {what} has {size} bytes, and {limit} are taken"
        jsonschema.Draft202012Validator.check_schema(schema)
    except (ValueError, jsonschema.SchemaError) as error:
        return f"its schema is none: {clean(str(error), 100)}"
    if definition.execution.get("taskSupport") == "required":
        return "it answers only to tasks, an experiment of the protocol"
    if _refers_elsewhere(schema):
        return "its schema refers to something outside of itself"
    return None if schema.get("type", "object") == "object" else "its arguments are not an object"


def _refers_elsewhere(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_refers_elsewhere, schema))
    if not isinstance(schema, dict):
        return False
    reference = schema.get("$ref", "#")
    outside = isinstance(reference, str) and not reference.startswith("#")
    return outside or any(map(_refers_elsewhere, schema.values()))


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level and deepest <= _MAX_DEPTH:
        deepest += 1
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [item for items in inner for item in items]
    return deepest


def _cleaned(schema: Any) -> Any:
    """Return a schema whose descriptions are short, and without what says nothing to a model."""
    if isinstance(schema, list):
        return [_cleaned(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _keyword(key, value) for key, value in schema.items() if key not in _DROPPED_KEYS}
    if isinstance(told := kept.get("description"), str):
        kept["description"] = clean(told, MAX_ARGUMENT_DESCRIPTION)
    return kept


def _keyword(key: str, value: Any) -> Any:
    if key in _DATA:
        return value
    if key in _BY_NAME and isinstance(value, dict):
        return {name: _cleaned(inner) for name, inner in value.items()}
    return _cleaned(value)
