"""Open what a project contributes, its rules and its tools beside the built-in ones, once it is trusted.

Every way to a project's code leads through here, for runs and for training alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_policies import Policy, policy_layers
from koboshi_tools import Tool, builtin_tools, load_tools_folder

from .home import Home
from .project import Project
from .trust import require_trust


@dataclass(frozen=True, slots=True)
class Contributed:
    """The rules in force for a project, and every tool that there is for it."""

    policy: Policy
    tools: Mapping[str, Tool]


def open_contributions(home: Home, project: Project, policy_files: Sequence[Path] = ()) -> Contributed:
    """Return a project's rules, with further files after them, and its tools.

    Raises UntrustedError, and UsageError for a rule or a tool that does not load.
    """
    require_trust(home, project)
    policy = Policy.load(policy_layers(project.policies, policy_files))
    return Contributed(policy, {**builtin_tools(), **load_tools_folder(project.tools_folder)})
