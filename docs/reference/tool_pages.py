"""The pages of `tools.md`: every built-in tool as a model sees it. Run by cog; see `make docs`."""

from collections.abc import Iterator
from typing import Any

from koboshi_tools import Tool, builtin_tools
from koboshi_tools.sandbox import SandboxProfile, profile_of


def pages() -> Iterator[str]:
    """Yield a section for each tool, from its own description and schema."""
    for name, tool in builtin_tools().items():
        yield f"## {name}\n"
        yield f"{tool.spec.description}\n"
        yield f"Effect `{tool.effect.value}`; {_place(tool)}.\n"
        yield "| argument | type | |"
        yield "|---|---|---|"
        required = tool.spec.parameters.get("required", ())
        for argument, schema in tool.spec.parameters["properties"].items():
            yield f"| `{argument}` | {_type(schema)} | {'' if argument in required else _optional(schema)} |"
        yield ""


def profiles() -> Iterator[str]:
    """Yield the table of what each effect class may do in its sandbox."""
    yield "| effect | workspace | programs |"
    yield "|---|---|---|"
    for effect in ("read", "net", "write", "exec"):
        profile = profile_of(effect)  # type: ignore[arg-type]
        yield f"| `{effect}` | {profile.workspace} | {'yes' if profile.programs else 'no'} |"
    yield ""
    limits = SandboxProfile()
    yield f"Of each process: {limits.memory_mb} MB of memory, {limits.cpu_s} s of processor time, files of"
    yield f"{limits.file_mb} MB, {limits.open_files} open files. Of a call: {limits.processes} processes and threads,"
    yield f"{limits.memory_mb} MB of memory in all, and the project's `tool_seconds` and `tool_output_bytes`."


def _place(tool: Tool) -> str:
    where = "runs in koboshi's own process" if tool.profile is None else "runs in a sandbox"
    return f"{where}; a second equal call changes nothing more" if tool.idempotent else where


def _type(schema: dict[str, Any]) -> str:
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    return ", ".join([schema.get("type", "any"), *bounds])


def _optional(schema: dict[str, Any]) -> str:
    return f"default `{schema['default']}`" if "default" in schema else "may be left out"
