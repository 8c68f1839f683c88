"""What a tool may do in its sandbox: the workspace, programs, and how much of the machine.

The effect class gives the profile; a tool that needs less, or more time or memory, brings its own. There is no network
in any profile: a tool that reaches out asks the process outside for a page (`ToolContext.fetch`).
"""

from typing import Literal

from pydantic import Field

from ..values import EffectClass, Frozen

Access = Literal["none", "read", "write"]


class SandboxProfile(Frozen):
    """The limits of one call. Memory is that of each process and of all together, processor time that of each."""

    workspace: Access = "read"
    programs: bool = False
    memory_mb: int = Field(default=1024, ge=64)
    cpu_s: int = Field(default=60, ge=1)
    file_mb: int = Field(default=64, ge=0)
    open_files: int = Field(default=256, ge=16)
    processes: int = Field(default=64, ge=1)


_BY_EFFECT = {
    EffectClass.READ: SandboxProfile(),
    EffectClass.NET: SandboxProfile(),
    EffectClass.WRITE: SandboxProfile(workspace="write"),
    EffectClass.EXEC: SandboxProfile(workspace="write", programs=True),
}


def profile_of(effect: EffectClass) -> SandboxProfile:
    """Return the profile that an effect class asks for: only `exec` may start programs, `read` and `net` only read."""
    return _BY_EFFECT[effect]
