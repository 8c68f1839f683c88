"""The accepted tools of a project's MCP servers, as tools like any other: named, pinned, checked, called by policy.

What is offered is read from the lock; no server is started to look. What a tool acts on lies outside of the run's
workspace, so no scratch copy stands in for it, and it is called in real work only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import jsonschema
from referencing import Registry
from referencing.exceptions import Unresolvable

from ..arguments import InvalidArgumentsError
from ..canonical import hash_value
from ..definition import Tool
from ..values import EffectClass
from .definitions import Definition, Listed, clean, effect_of, tool_spec
from .hub import McpHub
from .servers import McpServer

_MAX_PROBLEMS = 3
_PROBLEM_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class SchemaArguments:
    """Arguments that are described and checked by a JSON schema; nothing is converted, and no reference is fetched."""

    schema: dict[str, Any]
    wants_context: bool = False

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments. Raises InvalidArgumentsError naming at most three problems."""
        validator = jsonschema.Draft202012Validator(self.schema, registry=Registry())
        try:
            problems = [_problem(error) for error in islice(validator.iter_errors(arguments), _MAX_PROBLEMS)]
        except (Unresolvable, RecursionError, ValueError, TypeError) as error:
            raise InvalidArgumentsError(f"the arguments cannot be checked: {type(error).__name__}") from error
        if problems:
            raise InvalidArgumentsError("; ".join(problems))
        return dict(arguments)


def mcp_tools(servers: Sequence[McpServer], pins: Mapping[str, Listed], hub: McpHub) -> dict[str, Tool]:
    """Return the tools that were accepted of these servers, by name; of two with one name the first."""
    found: dict[str, Tool] = {}
    for server in servers:
        pinned = pins.get(server.name)
        for definition in pinned.definitions if pinned else ():
            if any(fnmatchcase(definition.name, glob) for glob in server.koboshi.tools):
                tool = _tool(server, definition, pinned.version if pinned else "", hub)
                found.setdefault(tool.spec.name, tool)
    return found


def _tool(server: McpServer, definition: Definition, version: str, hub: McpHub) -> Tool:
    effect, spec = effect_of(server, definition), tool_spec(server.name, definition)
    idempotent = any(fnmatchcase(definition.name, glob) for glob in server.koboshi.idempotent)
    entry = server.model_dump(mode="json", exclude={"koboshi"})
    return Tool(
        spec=spec,
        function=_call(server.name, definition, hub),
        effect=effect,
        idempotent=effect is EffectClass.READ or idempotent,
        version=version or "unknown",
        digest=hash_value({"effect": effect, "server": entry, "definition": definition.digest}),
        arguments=SchemaArguments(spec.parameters),
        elsewhere=True,
    )


def _call(server: str, definition: Definition, hub: McpHub) -> Callable[..., str]:
    def call(**arguments: Any) -> str:
        return hub.call(server, definition, arguments)

    return call


def _problem(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    return clean(f"{where}: {error.message}" if where else error.message, _PROBLEM_CHARACTERS)
