"""Rules about tools, and their decisions."""

from .circumstances import PURPOSES, Circumstances
from .decision import Answer, Decision, Verdict
from .layers import policy_layers, preset, preset_names
from .policy import Policy, PolicyLayer, check, matching, offerable
from .replay import Difference, LoggedCall, policy_verdict, replay
from .rules import Rule, RuleText

__all__ = [
    "PURPOSES",
    "Answer",
    "Circumstances",
    "Decision",
    "Difference",
    "LoggedCall",
    "Policy",
    "PolicyLayer",
    "Rule",
    "RuleText",
    "Verdict",
    "check",
    "matching",
    "offerable",
    "policy_layers",
    "policy_verdict",
    "preset",
    "preset_names",
    "replay",
]
