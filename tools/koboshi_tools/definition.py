"""What a tool is, and `@tool`, which makes one from a function.

The signature gives the schema, the first paragraph of the docstring the description, its `Args:` section those of the
arguments; a return annotation that is a pydantic model is the schema of the output. The digest names the code: a file
that changed is another tool, whatever its version says.

A tool that does more than read runs in a sandbox of its effect class, so it must stand at the top level of a file that
can be run again there. Not covered by the digest: modules that the tool's file imports.
"""

import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, Literal, NamedTuple, overload

from pydantic import BaseModel

from .arguments import Binder, read_arguments, summary
from .canonical import hash_bytes, hash_value
from .errors import ToolError, UsageError
from .sandbox.profile import SandboxProfile, profile_of
from .values import EffectClass, ToolSpec

# Where `loading` keeps the bytes of a tool's file that it ran, in the module that they became.
CODE = "__koboshi_code__"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

EffectName = Literal["read", "write", "net", "exec"]


class Page(NamedTuple):
    """What a server answered; `url` is where the last redirect led."""

    status: int
    url: str
    content_type: str
    text: str


def _no_fetch(url: str) -> Page:
    raise ToolError(f"{url} cannot be fetched: only a tool of effect net may reach out")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What the runtime gives to a tool that asks for it with a parameter named `context`.

    `workspace` is the folder of the run, `settings` the tool's own table of the project's configuration. `fetch` gets
    a page for a tool of effect `net`, from the hosts that `settings["hosts"]` names; it raises ToolError for any other.
    """

    workspace: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    fetch: Callable[[str], Page] = field(default=_no_fetch, compare=False)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tool's function lies; `code` are the bytes of its file, None where the module can be imported."""

    module: str
    file: str
    code: bytes | None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call; `idempotent` says that a second equal call changes nothing more.

    `elsewhere` says that what it acts on is not in the run's workspace: no scratch copy can stand in for that.
    `profile` is that of its sandbox, None for a tool that runs in this process; `output` is the model of its answers.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    effect: EffectClass
    idempotent: bool
    version: str
    digest: str
    arguments: Binder
    profile: SandboxProfile | None = None
    output: type[BaseModel] | None = None
    origin: Origin | None = None
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
    sandbox: SandboxProfile | bool | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: EffectName = "read",
    idempotent: bool | None = None,
    version: str = "1",
    name: str | None = None,
    sandbox: SandboxProfile | bool | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function, with or without options.

    Args:
        function: a plain or an async function whose parameters are annotated.
        effect: what a call may change; `read` means nothing at all.
        idempotent: whether a call may be repeated; a tool that only reads always may.
        version: the author's own name for this state of the tool.
        name: what the model calls it, if not the function's name.
        sandbox: its profile; True means that of the effect class, which is the default for all but `read`. False keeps
            it in this process: for tools that belong to the program that runs them, never for those of a project.

    Raises:
        UsageError: the function has no docstring, its signature cannot be described to a model, or it needs a sandbox
            and is not defined at the top level of a file.
    """

    def make(function: Callable[..., Any]) -> Tool:
        return _make(function, EffectClass(effect), idempotent, version, name or function.__name__, sandbox)

    return make if function is None else make(function)


def _make(
    function: Callable[..., Any],
    effect: EffectClass,
    idempotent: bool | None,
    version: str,
    name: str,
    sandbox: SandboxProfile | bool | None,
) -> Tool:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a tool's name", hint="Use letters, digits, dots, _ and -, at most 64.")
    description = summary(function.__doc__ or "")
    if not description:
        raise UsageError(f"tool {name!r} has no docstring", hint="Its first paragraph tells the model what it does.")
    if effect is EffectClass.READ and idempotent is False:
        raise UsageError(f"tool {name!r} only reads, and is not idempotent", hint="Give the effect that it has.")
    arguments = read_arguments(function)
    spec = ToolSpec(name=name, description=description, parameters=arguments.schema)
    profile, output, origin = _profile(effect, sandbox), _output(function), _origin(function)
    if profile is not None and origin is None:
        raise UsageError(
            f"tool {name!r} needs a sandbox, and {function.__qualname__} cannot be run again there",
            hint="Define it at the top level of a file; sandbox=False is for tools of the program that runs them.",
        )
    told = {
        "effect": effect,
        "source": _source_hash(function, origin),
        "spec": spec.model_dump(mode="json"),
        "output": None if output is None else output.model_json_schema(),
        "sandbox": None if profile is None else profile.model_dump(mode="json"),
    }
    return Tool(
        spec=spec,
        function=function,
        effect=effect,
        idempotent=effect is EffectClass.READ or bool(idempotent),
        version=version,
        digest=hash_value(told),
        arguments=arguments,
        profile=profile,
        output=output,
        origin=origin,
    )


def _profile(effect: EffectClass, sandbox: SandboxProfile | bool | None) -> SandboxProfile | None:
    if isinstance(sandbox, SandboxProfile):
        return sandbox
    wanted = effect is not EffectClass.READ if sandbox is None else sandbox
    return profile_of(effect) if wanted else None


def _output(function: Callable[..., Any]) -> type[BaseModel] | None:
    found = typing.get_type_hints(function).get("return")
    return found if inspect.isclass(found) and issubclass(found, BaseModel) else None


def _origin(function: Callable[..., Any]) -> Origin | None:
    """Return where a function can be found again, None for one that only this process has."""
    file = Path(function.__code__.co_filename)
    code = function.__globals__.get(CODE)
    if "<" in function.__qualname__ or not (isinstance(code, bytes) or file.is_file()):
        return None
    if isinstance(code, bytes):
        return Origin(function.__module__, str(file), code)
    importable = function.__module__ != "__main__" and getattr(sys.modules[function.__module__], "__spec__", None)
    return Origin(function.__module__, str(file), None if importable else file.read_bytes())


def _source_hash(function: Callable[..., Any], origin: Origin | None) -> str:
    """Return the hash of the file that holds the function, or of its code where there is no file."""
    if origin is not None:
        return hash_bytes(Path(origin.file).read_bytes() if origin.code is None else origin.code)
    file = Path(function.__code__.co_filename)
    return hash_bytes(file.read_bytes()) if file.is_file() else hash_bytes(_code_text(function.__code__).encode())


def _code_text(code: CodeType) -> str:
    constants = [_code_text(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return repr((code.co_name, code.co_code.hex(), code.co_names, constants))
