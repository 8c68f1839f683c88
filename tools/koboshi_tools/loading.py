"""Find tools: the built-in ones, and those of a project's `tools/` folder.

Loading a file runs it: a folder from elsewhere must be trusted first, and that is the caller's part. A project's tool
may not take the name of a built-in one, because a rule that allows that name was written for the built-in.
"""

import sys
from pathlib import Path
from types import ModuleType

from .canonical import hash_bytes
from .definition import Tool
from .errors import UsageError


def builtin_tools() -> dict[str, Tool]:
    """Return the tools that come with koboshi, by name."""
    # Imported here: who only runs `koboshi --help` should not wait for SQLite and for schemas to be made.
    from .builtin import calculator, files, sql

    tools = (calculator.calculator, sql.sql, files.files_read, files.files_list, files.files_search)
    return {tool.spec.name: tool for tool in tools}


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
            name = tool.spec.name
            if name in taken:
                raise UsageError(f"{file}: the name {name!r} is taken by {taken[name]}", hint="Give it another name.")
            taken[name] = str(file)
            found[name] = tool
    return found


def _tools_of(file: Path) -> list[Tool]:
    module = _run(file)
    tools = [value for value in vars(module).values() if isinstance(value, Tool)]
    own = [tool for tool in tools if tool.function.__module__ == module.__name__]
    if not own:
        raise UsageError(
            f"{file} defines no tool", hint="Put @tool over a function, or begin the file's name with an underscore."
        )
    return own


def _run(file: Path) -> ModuleType:
    """Run a file as a module of a private name; it leaves no compiled copy beside the source."""
    module = ModuleType(f"_koboshi_tool_{file.stem}_{hash_bytes(str(file.absolute()).encode())[-12:]}")
    module.__file__ = str(file)
    # Annotations are resolved through sys.modules.
    sys.modules[module.__name__] = module
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        where = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{file}{where}: {reason}", hint="Correct the file, or take it out of the folder.") from error
    return module
