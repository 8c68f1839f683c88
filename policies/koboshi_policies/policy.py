"""Decide whether a tool call may run.

All rules of all layers that apply are collected and the strictest decides: deny, then ask, then modify, then allow.
If none applies the call is denied: a policy that forgot a tool must not become permission. A rule that fails denies.
Layers only name where a rule comes from: since the strictest wins, none can loosen another, and a deny of the system
is final. `check` is pure; asking a person and recording the decision are the runtime's job.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from koboshi_tools import ToolCall, UsageError, hash_value

from .decision import Decision, Verdict
from .reading import read_rules
from .rules import Rule

_STRICTNESS = {Verdict.ALLOW: 0, Verdict.MODIFY: 1, Verdict.ASK: 2, Verdict.DENY: 3}


@dataclass(frozen=True, slots=True)
class PolicyLayer:
    """A policy file, or a folder whose `*.toml` files are read in the order of their names."""

    name: str
    path: Path

    def files(self) -> list[Path]:
        """Return the layer's files; a path that is no folder is its own only file. Raises UsageError."""
        try:
            if not self.path.is_dir():
                return [self.path]
            return sorted(file for file in self.path.iterdir() if file.suffix == ".toml")
        except OSError as error:
            raise UsageError(
                f"cannot read the policy folder {self.path}: {error.strerror}",
                hint="A policy that is there must be readable.",
            ) from error


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of all layers in order; `hash` names what they say, wherever the files lie."""

    rules: tuple[Rule, ...]
    hash: str

    @classmethod
    def load(cls, layers: Sequence[PolicyLayer]) -> "Policy":
        """Read every layer. Raises UsageError with file and line; nothing is skipped."""
        rules = [rule for layer in layers for file in layer.files() for rule in read_rules(file, layer.name)]
        return cls.of(rules)

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "Policy":
        """Return the policy of these rules."""
        kept = tuple(rules)
        said = [{"layer": rule.layer, "name": rule.name, **_said(rule)} for rule in kept]
        return cls(rules=kept, hash=hash_value(said))


def check(call: ToolCall, policy: Policy) -> Decision:
    """Return the strictest decision among the rules that apply to `call`, the first of equals, or a denial."""
    decisions = [decision for rule in policy.rules if (decision := _decide(rule, call))]
    if not decisions:
        return Decision(verdict=Verdict.DENY, reason=f"no rule allows this call of {call.name!r}")
    return max(decisions, key=lambda decision: _STRICTNESS[decision.verdict])


def offerable(tools: Iterable[str], policy: Policy) -> tuple[str, ...]:
    """Return the tools that are not denied whatever their arguments, in the order given."""
    return tuple(tool for tool in tools if _may_pass(tool, policy))


def _may_pass(tool: str, policy: Policy) -> bool:
    rules = [rule for rule in policy.rules if rule.names(tool)]
    denied = any(rule.text.verdict is Verdict.DENY and not rule.text.arguments for rule in rules)
    return not denied and any(rule.text.verdict is not Verdict.DENY for rule in rules)


def _decide(rule: Rule, call: ToolCall) -> Decision | None:
    try:
        if not rule.applies(call):
            return None
    except Exception as error:
        # Whatever keeps a rule from being looked at must not keep it from forbidding.
        return _decision(rule, Verdict.DENY, f"the rule failed: {type(error).__name__}: {error}")
    return _decision(rule, rule.text.verdict, rule.text.reason)


def _decision(rule: Rule, verdict: Verdict, reason: str) -> Decision:
    return Decision(verdict=verdict, reason=reason, rule=rule.name, file=rule.file, line=rule.line, layer=rule.layer)


def _said(rule: Rule) -> dict[str, object]:
    return rule.text.model_dump(mode="json", exclude={"name"})
