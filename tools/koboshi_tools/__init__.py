"""What a tool is, the built-in tools, and running one call."""

from .canonical import canonical_json, hash_bytes, hash_file, hash_value
from .errors import KoboshiError, RefusedError, ToolError, UsageError
from .values import EffectClass, Frozen, ToolCall, ToolResult, ToolSpec, ToolVerdict, Transport

__all__ = [
    "EffectClass",
    "Frozen",
    "KoboshiError",
    "RefusedError",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "ToolSpec",
    "ToolVerdict",
    "Transport",
    "UsageError",
    "canonical_json",
    "hash_bytes",
    "hash_file",
    "hash_value",
]
