"""`koboshi tools`: what a model can be offered here, and how it sees it."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import click

from koboshi_policies import offerable
from koboshi_tools import Tool, UsageError, builtin_tools, installed_tools
from koboshi_tools.lock import is_own, read_lock, state_of
from koboshi_tools.sandbox import probe

from ..opening import open_contributions
from ..project import load_project
from ..tool_swaps import live_tools
from .context import echo_json, open_home, progress, project_dir, table
from .policy import policy_here
from .tool_swaps import rollback_command, swap_command
from .tools_accept import accept_command
from .tools_success import success_command
from .trust import ask_for_trust

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
# Enough to tell two digests apart on a screen.
_SHOWN_DIGEST = len("sha256:") + 12
# What is not the project's to accept is not in its lock.
_LOCK_WORDS = {"same": "accepted", "new": "new", "changed": "CHANGED", "": "-"}


class ToolsHere(NamedTuple):
    """The tools of a place by name; `offered` are those that the project chooses and the policy does not deny.

    `lock` says how those stand that the project's lock pins.
    """

    tools: dict[str, Tool]
    offered: tuple[str, ...]
    lock: Mapping[str, str] = MappingProxyType({})


def tools_here(folder: Path | None) -> ToolsHere:
    """Return the built-in tools and those of a project's folder.

    Raises UsageError for a bad tool or policy file, and UntrustedError.
    """
    if folder is None:
        tools = builtin_tools() | installed_tools()
        return ToolsHere(tools, offerable(tools, policy_here(None)))
    home, project = open_home(), load_project(folder)
    ask_for_trust(home, folder)
    opened = open_contributions(home, project, held=False)
    found = dict(opened.tools)
    if opened.versions:
        from ..store import Store

        found |= live_tools(Store.open(home.traces), project.name, opened.tools, opened.versions)
    offered = offerable(project.select_tools(found), opened.policy)
    pins = read_lock(project.root)
    states = {name: state_of(name, tool, pins).value for name, tool in opened.tools.items() if is_own(tool)}
    return ToolsHere(found, offered, states)


@click.group(invoke_without_command=True)
@click.pass_context
def tools(context: click.Context) -> None:
    """Look at the tools that a model can be offered.

    Example: koboshi tools show calculator
    """
    if context.invoked_subcommand is None:
        context.invoke(list_command)


tools.add_command(accept_command)


@tools.command("list")
@_JSON
def list_command(as_json: bool = False) -> None:
    """List the built-in tools and the project's own.

    Example: koboshi tools list -C my-project
    """
    here = tools_here(project_dir())
    found = [_described(tool, here) for tool in here.tools.values()]
    if as_json:
        echo_json(found)
        return
    for tool in found:
        tool["digest"] = tool["digest"][:_SHOWN_DIGEST]
    columns = ("name", "effect", "version", "offered", "runs in", "lock", "digest")
    table(columns, [[_shown(tool[key]) for key in columns] for tool in found])
    progress(f"sandbox: {probe()}")


@tools.command("show")
@click.argument("name")
@_JSON
def show_command(name: str, as_json: bool) -> None:
    """Print a tool as a model sees it, with its effect, version and digest.

    Example: koboshi tools show sql
    """
    here = tools_here(project_dir())
    if name not in here.tools:
        near = get_close_matches(name, here.tools, n=1)
        raise UsageError(
            f"there is no tool {name!r}",
            hint=f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(here.tools))}.",
        )
    tool = here.tools[name]
    found = _described(tool, here)
    if as_json:
        echo_json(found | {"spec": tool.spec.model_dump(mode="json")})
        return
    table(("", name), [(key, _shown(value)) for key, value in found.items() if key != "name"])
    echo_json(tool.spec.model_dump(mode="json"))


def _described(tool: Tool, here: ToolsHere) -> dict[str, Any]:
    return {
        "name": tool.spec.name,
        "effect": tool.effect.value,
        "idempotent": tool.idempotent,
        "version": tool.version,
        "runs in": _place(tool),
        "lock": _LOCK_WORDS[here.lock.get(tool.spec.name, "")],
        "offered": tool.spec.name in here.offered,
        "digest": tool.digest,
    }


def _place(tool: Tool) -> str:
    """Say where a tool runs: in koboshi's own process, or in the sandbox that this machine has."""
    if tool.profile is None:
        return "process"
    found = probe().mode
    return "nowhere: no sandbox" if found is None else f"sandbox ({found.value})"


def _shown(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


tools.add_command(success_command)
tools.add_command(swap_command)
tools.add_command(rollback_command)
