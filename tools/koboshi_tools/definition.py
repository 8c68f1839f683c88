"""What a tool is, and `@tool`, which makes one from a function.

The signature gives the schema, the first paragraph of the docstring the description, its `Args:` section those of the
arguments. The digest names the code: a file that changed is another tool, whatever its version says.

Not covered by the digest: modules that the tool's file imports.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, Literal, overload

from .arguments import Binder, read_arguments, summary
from .canonical import hash_bytes, hash_value
from .errors import UsageError
from .values import EffectClass, ToolSpec

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

EffectName = Literal["read", "write", "net", "exec"]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What the runtime gives to a tool that asks for it with a parameter named `context`.

    `workspace` is the folder of the run, `settings` the tool's own table of the project's configuration.
    """

    workspace: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call; `idempotent` says that a second equal call changes nothing more.

    `elsewhere` says that what it acts on is not in the run's workspace: no scratch copy can stand in for that.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    effect: EffectClass
    idempotent: bool
    version: str
    digest: str
    arguments: Binder
    elsewhere: bool = False


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    effect: EffectName = "read",
    idempotent: bool | None = None,
    version: str = "1",
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: EffectName = "read",
    idempotent: bool | None = None,
    version: str = "1",
    name: str | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function, with or without options.

    Args:
        function: a plain or an async function whose parameters are annotated.
        effect: what a call may change; `read` means nothing at all.
        idempotent: whether a call may be repeated; a tool that only reads always may.
        version: the author's own name for this state of the tool.
        name: what the model calls it, if not the function's name.

    Raises:
        UsageError: the function has no docstring, or its signature cannot be described to a model.
    """

    def make(function: Callable[..., Any]) -> Tool:
        return _make(function, EffectClass(effect), idempotent, version, name or function.__name__)

    return make if function is None else make(function)


def _make(function: Callable[..., Any], effect: EffectClass, idempotent: bool | None, version: str, name: str) -> Tool:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a tool's name", hint="Use letters, digits, dots, _ and -, at most 64.")
    description = summary(function.__doc__ or "")
    if not description:
        raise UsageError(f"tool {name!r} has no docstring", hint="Its first paragraph tells the model what it does.")
    if effect is EffectClass.READ and idempotent is False:
        raise UsageError(f"tool {name!r} only reads, and is not idempotent", hint="Give the effect that it has.")
    arguments = read_arguments(function)
    spec = ToolSpec(name=name, description=description, parameters=arguments.schema)
    source = _source_hash(function)
    return Tool(
        spec=spec,
        function=function,
        effect=effect,
        idempotent=effect is EffectClass.READ or bool(idempotent),
        version=version,
        digest=hash_value({"effect": effect, "source": source, "spec": spec.model_dump(mode="json")}),
        arguments=arguments,
    )


def _source_hash(function: Callable[..., Any]) -> str:
    """Return the hash of the file that holds the function, or of its code where there is no file."""
    code = function.__code__
    file = Path(code.co_filename)
    return hash_bytes(file.read_bytes()) if file.is_file() else hash_bytes(_code_text(code).encode())


def _code_text(code: CodeType) -> str:
    constants = [_code_text(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return repr((code.co_name, code.co_code.hex(), code.co_names, constants))
