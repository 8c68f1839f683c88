"""Find tools: the built-in ones, those of installed packages, and those of a project's `tools/` folder.

Loading a file runs it: a folder from elsewhere must be trusted first, and that is the caller's part. A name that is
taken cannot be taken again, because a rule that allows it was written for the first that had it. Tools that come from
outside this program run in their sandbox, whatever they say themselves.
"""

import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from .canonical import hash_bytes
from .definition import CODE, Tool
from .errors import UsageError
from .values import EffectClass

# Installed packages offer tools under this name: an entry point to a tool, or to a module that defines some.
GROUP = "koboshi.tools"


def builtin_tools() -> dict[str, Tool]:
    """Return the tools that come with koboshi, by name."""
    # Imported here: who only runs `koboshi --help` should not wait for SQLite and for schemas to be made.
    from .builtin import TOOL_MODULES

    found = (tool for name in TOOL_MODULES for tool in tools_in(import_module(f".builtin.{name}", __package__)))
    return {tool.spec.name: tool for tool in found}


def installed_tools() -> dict[str, Tool]:
    """Return the tools of installed packages by name. Raises UsageError, naming the package's entry point."""
    found: dict[str, Tool] = {}
    taken = dict.fromkeys(builtin_tools(), "a built-in tool")
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            value = point.load()
        except Exception as error:
            hint = "Correct the package, or uninstall it."
            raise UsageError(f"the tools {point.name!r} ({point.value}): {error}", hint=hint) from error
        for tool in [value] if isinstance(value, Tool) else tools_in(value):
            _take(tool, place=f"the package of {point.value}", taken=taken)
            found[tool.spec.name] = tool
    return found


def load_tools_folder(path: Path) -> dict[str, Tool]:
    """Return the tools of every `*.py` in `path` by name; files whose name begins with `_` are left alone.

    A folder that does not exist holds no tools.

    Raises:
        UsageError: a file cannot be read or run, defines no tool, or a name is taken; the message names the file.
    """
    found: dict[str, Tool] = {}
    taken = dict.fromkeys(builtin_tools(), "a built-in tool")
    for file in sorted(path.glob("*.py")) if path.is_dir() else ():
        if file.name.startswith("_"):
            continue
        for tool in _tools_of(file):
            _take(tool, place=str(file), taken=taken)
            found[tool.spec.name] = tool
    return found


def tools_in(module: ModuleType) -> list[Tool]:
    """Return the tools that a module defines itself, in their order."""
    tools = [value for value in vars(module).values() if isinstance(value, Tool)]
    return [tool for tool in tools if tool.function.__module__ == module.__name__]


def find_module(name: str, *, file: str, code: str | None) -> ModuleType:
    """Return the module of a tool in another process: imported by its name, or made of the bytes of its file."""
    if code is None:
        return import_module(name)
    return _made(name, file, code.encode("latin-1"))


def _take(tool: Tool, *, place: str, taken: dict[str, str]) -> None:
    name = tool.spec.name
    if name in taken:
        raise UsageError(f"{place}: the name {name!r} is taken by {taken[name]}", hint="Give it another name.")
    if tool.effect is not EffectClass.READ and tool.profile is None:
        raise UsageError(
            f"{place}: the tool {name!r} says sandbox=False, and may not",
            hint="Only a tool that reads, or one of the program that runs it, may go without a sandbox.",
        )
    taken[name] = place


def _tools_of(file: Path) -> list[Tool]:
    own = tools_in(_run(file))
    if not own:
        raise UsageError(
            f"{file} defines no tool", hint="Put @tool over a function, or begin the file's name with an underscore."
        )
    return own


def _run(file: Path) -> ModuleType:
    """Run a file as a module of a private name; it leaves no compiled copy beside the source."""
    name = f"_koboshi_tool_{file.stem}_{hash_bytes(str(file.absolute()).encode())[-12:]}"
    try:
        return _made(name, str(file), file.read_bytes())
    except (Exception, SystemExit) as error:
        where = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{file}{where}: {reason}", hint="Correct the file, or take it out of the folder.") from error


def _made(name: str, file: str, code: bytes) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = file
    # What a tool's digest is taken of: the file may be another by the time it is looked at.
    vars(module)[CODE] = code
    # Annotations are resolved through sys.modules.
    sys.modules[name] = module
    try:
        exec(compile(code, file, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
