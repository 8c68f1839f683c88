"""Open what a project contributes, its rules and its tools beside the built-in ones, once it is trusted.

Every way to a project's code leads through here, for runs and for training alike.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_policies import Policy, policy_layers
from koboshi_tools import Tool, builtin_tools, installed_tools, load_tools_folder
from koboshi_tools.lock import LOCK_FILE, hold_to_lock
from koboshi_tools.mcp import (
    FILE_NAME,
    McpHub,
    McpServer,
    Surroundings,
    load_servers,
    mcp_tools,
    read_pins,
)

from .home import Home
from .project import Project
from .tool_swaps import Versions, load_versions
from .trust import require_trust


@dataclass(frozen=True, slots=True)
class Contributed:
    """The rules in force for a project, every tool that there is for it, and further versions of them.

    `close` ends the servers behind some.
    """

    policy: Policy
    tools: Mapping[str, Tool]
    servers: McpHub
    versions: Versions

    def close(self) -> None:
        """End every MCP server that was started for a call."""
        self.servers.close()


def open_contributions(
    home: Home, project: Project, policy_files: Sequence[Path] = (), *, held: bool = True
) -> Contributed:
    """Return a project's rules, with further files after them, and its tools.

    Of its MCP servers those tools that were accepted; nothing is started. Its own tools and those of packages are held
    to the lock, unless they are only looked at (`held` False). Raises UntrustedError, RefusedError for a tool that is
    not the one that was accepted, and UsageError for a rule, a tool or a server's entry that does not load.
    """
    require_trust(home, project)
    policy = Policy.load(policy_layers(project.policies, policy_files))
    servers = load_servers(project.root / FILE_NAME)
    hub = open_hub(home, project, servers)
    own = installed_tools() | load_tools_folder(project.tools_folder)
    versions = load_versions(project.tools_folder, own)
    if held:
        hold_to_lock(project.root, pinned_tools(own, versions))
    found = mcp_tools(servers, read_pins(project.root / LOCK_FILE), hub)
    return Contributed(policy, {**found, **builtin_tools(), **own}, hub, versions)


def open_hub(home: Home, project: Project, servers: Sequence[McpServer]) -> McpHub:
    """Return the way to servers of a project; none is started before it is asked for something."""
    return McpHub(servers, Surroundings(project.root, project.workspace, os.environ, home.root))


def pinned_tools(own: Mapping[str, Tool], versions: Versions) -> dict[str, Tool]:
    """Return what the lock pins, by name: tools, and the further versions of them as NAME@VERSION."""
    beside = {f"{name}@{tool.version}": tool for name, tools in versions.items() for tool in tools}
    return {**own, **beside}
