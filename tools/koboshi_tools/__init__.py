"""What a tool is, the built-in tools, and running one call.

A name brings in its module when it is first used: a command that only wants an error to raise, and the model worker,
which runs no tool, would else wait for all of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .canonical import canonical_json, hash_bytes, hash_file, hash_value
    from .definition import Page, Tool, ToolContext, tool
    from .errors import KoboshiError, RefusedError, ToolError, UsageError
    from .execution import execute
    from .loading import builtin_tools, installed_tools, load_tools_folder
    from .sandbox import Sandbox, SandboxProfile
    from .schema import bounded
    from .values import EffectClass, Frozen, ToolCall, ToolResult, ToolSpec, ToolVerdict, Transport

__all__ = [
    "EffectClass",
    "Frozen",
    "KoboshiError",
    "Page",
    "RefusedError",
    "Sandbox",
    "SandboxProfile",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "ToolSpec",
    "ToolVerdict",
    "Transport",
    "UsageError",
    "bounded",
    "builtin_tools",
    "canonical_json",
    "execute",
    "hash_bytes",
    "hash_file",
    "hash_value",
    "installed_tools",
    "load_tools_folder",
    "tool",
]

_MODULES = {
    "canonical": ("canonical_json", "hash_bytes", "hash_file", "hash_value"),
    "definition": ("Page", "Tool", "ToolContext", "tool"),
    "errors": ("KoboshiError", "RefusedError", "ToolError", "UsageError"),
    "execution": ("execute",),
    "loading": ("builtin_tools", "installed_tools", "load_tools_folder"),
    "sandbox": ("Sandbox", "SandboxProfile"),
    "schema": ("bounded",),
    "values": ("EffectClass", "Frozen", "ToolCall", "ToolResult", "ToolSpec", "ToolVerdict", "Transport"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:
    # Hidden from the type checker, to which a module that has this has every name.

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = found
        return found
