"""Rules about tools, and their decisions."""

from .decision import Decision, Verdict

__all__ = ["Decision", "Verdict"]
