"""The sandbox of one tool call: what holds it, how it is started, and which kind this machine can have."""

from .keepers import Sandbox, default_sandbox
from .probe import Mode, Probe, probe
from .profile import SandboxProfile, profile_of

__all__ = ["Mode", "Probe", "Sandbox", "SandboxProfile", "default_sandbox", "probe", "profile_of"]
