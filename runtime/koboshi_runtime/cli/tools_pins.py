"""How the tools of a project and of packages stand to its lock, and what accepting some of them would write."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from koboshi_tools import Tool, installed_tools, load_tools_folder
from koboshi_tools.lock import Pin, PinState, difference, pin_of, read_lock, state_of

from ..opening import pinned_tools
from ..project import Project
from ..tool_swaps import load_versions


class Row(NamedTuple):
    """How one tool stands to what was accepted; `server` is empty for a tool that is not a server's."""

    sign: str
    server: str
    tool: str
    effect: str
    description: str


@dataclass(frozen=True, slots=True)
class OwnTools:
    """The tools of a project and of packages by the names in the lock, and their pins."""

    tools: dict[str, Tool]
    pins: dict[str, Pin]

    @classmethod
    def of(cls, project: Project) -> "OwnTools":
        """Load them: the project must be trusted. Raises UsageError for a tool or a lock that is wrong."""
        own = installed_tools() | load_tools_folder(project.tools_folder)
        versions = load_versions(project.tools_folder, own)
        return cls(pinned_tools(own, versions), read_lock(project.root))

    @property
    def names(self) -> set[str]:
        """Every tool that there is, or that was accepted."""
        return {*self.tools, *self.pins}

    def rows(self, names: Collection[str]) -> list[Row]:
        """Return how these stand, in order."""
        return [self._row(name) for name in sorted(names)]

    def accepted(self, names: Collection[str]) -> dict[str, Pin]:
        """Return the pins as they are once these are accepted; the pin of a tool that is gone goes too."""
        kept = {name: pin for name, pin in self.pins.items() if name not in names}
        return kept | {name: pin_of(self.tools[name]) for name in names if name in self.tools}

    def _row(self, name: str) -> Row:
        tool = self.tools.get(name)
        if tool is None:
            return Row("gone", "", name, self.pins[name].effect.value, "")
        state = state_of(name, tool, self.pins)
        told = difference(tool, self.pins[name]) if state is PinState.CHANGED else tool.spec.description
        return Row(state.value, "", name, tool.effect.value, told)
