"""The arguments of a tool, read from the signature and docstring of its function.

`read_arguments` makes a pydantic model with one field for each parameter; its JSON schema is what the model of the
agent sees, and `bind` checks what that model wrote before the function runs. A parameter called `context` is not an
argument: it is given by the runtime.
"""

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import SchemaError

from .canonical import canonical_json
from .compact import compact
from .errors import UsageError

CONTEXT = "context"

# Fields are named apart from the parameters, so that no parameter's name can collide with pydantic's own.
_FIELD = "argument_"
_MAX_PROBLEMS = 3
_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Example|Examples|Note|Notes):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\s+)(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")
_FORBIDDEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


class InvalidArgumentsError(ValueError):
    """The arguments do not fit the tool; the message is for the model to read."""


class Binder(Protocol):
    """The arguments of any tool: a JSON schema for the model, and a check of what the model wrote."""

    @property
    def schema(self) -> dict[str, Any]:
        """What the model is told; type object."""
        ...

    @property
    def wants_context(self) -> bool:
        """Whether the function has a parameter named `context`."""
        ...

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the function is called with. Raises InvalidArgumentsError."""
        ...


@dataclass(frozen=True, slots=True)
class Arguments:
    """How a tool's arguments are described and checked."""

    model: type[BaseModel]
    schema: dict[str, Any]
    wants_context: bool

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked values by parameter. Raises InvalidArgumentsError naming at most three problems.

        Nothing is converted that JSON tells apart: a policy looked at the arguments as they were written.
        """
        try:
            checked = self.model.model_validate_json(canonical_json(dict(arguments)), strict=True)
        except ValidationError as error:
            problems = [_problem(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors()]
            raise InvalidArgumentsError("; ".join(problems[:_MAX_PROBLEMS])) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidArgumentsError(f"the arguments are not JSON: {error}") from error
        return {name.removeprefix(_FIELD): getattr(checked, name) for name in type(checked).model_fields}


def read_arguments(function: Callable[..., Any]) -> Arguments:
    """Return the arguments of `function`. Raises UsageError if its signature cannot be described to a model."""
    name = getattr(function, "__name__", repr(function))
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UsageError(f"tool {name!r}: {error}", hint="Annotate it with names of its own module.") from error
    described = argument_descriptions(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    parameters = inspect.signature(function).parameters
    for parameter in parameters.values():
        if parameter.kind in _FORBIDDEN:
            raise UsageError(f"tool {name!r}: {parameter} is not a named parameter", hint="Name each parameter.")
        if parameter.name != CONTEXT:
            fields[_FIELD + parameter.name] = _field(name, parameter, hints, described.get(parameter.name))
    model = _model(name, fields)
    return Arguments(model=model, schema=_schema(name, model), wants_context=CONTEXT in parameters)


def summary(docstring: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(docstring.strip().split("\n\n")[0].split())


def argument_descriptions(docstring: str) -> dict[str, str]:
    """Return what the `Args:` section of a Google-style docstring says of each argument, each on one line."""
    found: dict[str, str] = {}
    indent, name = None, ""
    for line in _section(docstring, "Args").splitlines():
        match = _ARGUMENT.match(line)
        if match and (indent is None or len(match[1]) == indent):
            indent, name = len(match[1]), match[2]
            found[name] = match[3].strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _section(docstring: str, name: str) -> str:
    headers = list(_SECTION.finditer(docstring))
    for header, following in zip(headers, [*headers, None][1:], strict=True):
        if header[1] == name:
            return docstring[header.end() : following.start() if following else len(docstring)]
    return ""


def _field(tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any], description: str | None) -> Any:
    if parameter.name not in hints:
        raise UsageError(f"tool {tool!r}: parameter {parameter.name!r} has no type", hint="Annotate it.")
    hint: Any = hints[parameter.name]
    told: dict[str, Any] = {"description": description} if description and not _is_described(hint) else {}
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    return (hint, Field(default, alias=parameter.name, **told))


def _is_described(hint: Any) -> bool:
    return any(getattr(extra, "description", None) for extra in getattr(hint, "__metadata__", ()))


def _model(tool: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    try:
        model: type[BaseModel] = create_model(
            tool, __config__=ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False), **fields
        )
        return model
    except (PydanticUserError, PydanticSchemaGenerationError, SchemaError) as error:
        raise UsageError(
            f"tool {tool!r}: {str(error).splitlines()[0]}", hint="Use types that JSON can carry."
        ) from error


def _schema(tool: str, model: type[BaseModel]) -> dict[str, Any]:
    try:
        schema = compact(model.model_json_schema(by_alias=True))
    except PydanticUserError as error:
        raise UsageError(
            f"tool {tool!r}: {str(error).splitlines()[0]}", hint="Use types that JSON can carry."
        ) from error
    schema.pop("description", None)
    schema.setdefault("properties", {})
    return schema


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(str(part) for part in location)
    match kind:
        case "missing":
            return f"missing argument {where!r}"
        case "extra_forbidden":
            return f"unknown argument {where!r}"
        case _:
            return f"{where}: {message[:1].lower()}{message[1:]}"
