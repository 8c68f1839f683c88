"""Rules about tools, and their decisions."""

from .decision import Decision, Verdict
from .layers import policy_layers, preset, preset_names
from .policy import Policy, PolicyLayer, check, offerable
from .rules import Rule, RuleText

__all__ = [
    "Decision",
    "Policy",
    "PolicyLayer",
    "Rule",
    "RuleText",
    "Verdict",
    "check",
    "offerable",
    "policy_layers",
    "preset",
    "preset_names",
]
