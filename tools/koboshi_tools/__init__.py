"""What a tool is, the built-in tools, and running one call."""

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
