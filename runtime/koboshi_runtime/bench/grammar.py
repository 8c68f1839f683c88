"""The grammar that rivals hold their calls to: one JSON schema of all offered tools, written as GBNF by llama.cpp.

Limits of length are left out: the converter writes a bounded string as nested groups, one for each character, and
llama.cpp then takes minutes to read the grammar. The limit on tokens bounds strings instead.
"""

import json
from collections.abc import Sequence
from typing import Any

from koboshi_tools import ToolSpec

from ..formats import ToolFormat

_LENGTHS = {"maxLength", "minLength", "maxItems", "minItems", "maxProperties"}


def call_schema(tools: Sequence[ToolSpec], found: ToolFormat) -> tuple[str, list[str]]:
    """Return the schema of one call as JSON, and the order of its properties, which is the one the model was shown."""
    order = ["name", found.arguments_key]
    choices = []
    for tool in tools:
        order += [name for name in tool.parameters.get("properties", {}) if name not in order]
        named = {"name": {"const": tool.name}, found.arguments_key: without_lengths(tool.parameters)}
        choices.append({"type": "object", "properties": named, "required": list(named)})
    return json.dumps({"anyOf": choices}), order


def without_lengths(schema: Any) -> Any:
    """Return a JSON schema without its limits of length."""
    if isinstance(schema, dict):
        return {key: without_lengths(value) for key, value in schema.items() if key not in _LENGTHS}
    return [without_lengths(value) for value in schema] if isinstance(schema, list) else schema


def tagged(body: str, found: ToolFormat) -> str:
    """Return a grammar whose root is a whole call between its tags; `body` is the GBNF of the call itself."""
    call = body.replace("root ::=", "call ::=")
    return f"root ::= {json.dumps(found.opening)} call {json.dumps(found.closing)}\n{call}"


def spoken(call: str) -> str:
    """Return the grammar of a reply: text without `<`, then the end or a call; `call` comes from `tagged`."""
    return "root ::= [^<]* whole?\n" + call.replace("root ::=", "whole ::=")
