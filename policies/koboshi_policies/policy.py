"""Decide whether a tool call may run.

All rules of all layers that apply are collected and the strictest decides: deny, then ask, then modify, then allow.
If none applies the call is denied: a policy that forgot a tool must not become permission. A rule that fails denies.
Layers only name where a rule comes from: since the strictest wins, none can loosen another, and a deny of the system
is final. `check` is pure; asking a person, counting calls and recording the decision are the runtime's job.

Changing is no permission: what the `modify` rules make of a call is checked again, and some rule must allow it. A deny
or an ask that holds for the call, or for anything that those rules could make of it in any order, holds for the call
that is made. So a further `modify` rule can only add to what is looked at, and cannot lead a call around a deny.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from koboshi_tools import ToolCall, UsageError, canonical_json, hash_value

from .circumstances import Circumstances
from .decision import Decision, Verdict
from .reading import PolicyFile, read_policy_file
from .rules import Rule
from .versions import SwapWish

_STRICTNESS = {Verdict.ALLOW: 0, Verdict.MODIFY: 1, Verdict.ASK: 2, Verdict.DENY: 3}
# Calls that changing may lead to. Rules that set and clamp settle within a few; those that go on and on are a mistake.
_MOST_REACHED = 32
# Names of tools whose rules are remembered; a model may invent any number of names.
_MOST_KNOWN = 1000
_NEW = Circumstances()


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

    def read(self) -> list[PolicyFile]:
        """Read the layer's files. Raises UsageError with file and line."""
        return [read_policy_file(file, self.name) for file in self.files()]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that are obeyed, in order; `hash` names what they say, wherever the files lie.

    `shadow` is the policy that would hold if the files in shadow mode were obeyed too; None where there are none.
    `swaps` are versions of tools to be swapped in, one a tool: of two layers that name the same tool, the first counts.
    They decide no call and are no part of the hash; an approval is bound to the version of its tool by itself.
    """

    rules: tuple[Rule, ...]
    hash: str
    shadow: "Policy | None" = None
    swaps: tuple[SwapWish, ...] = ()
    _known: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict, repr=False, compare=False)

    def concerning(self, tool: str, purpose: str) -> tuple[Rule, ...]:
        """Return the rules about this tool in runs for this purpose; globs are matched once a tool."""
        key = (tool, purpose)
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = tuple(rule for rule in self.rules if rule.concerns(tool, purpose))
        return self._known[key]

    @property
    def rated(self) -> bool:
        """Whether any rule, obeyed or in shadow mode, needs to know how often tools were called lately."""
        rules = self.shadow.rules if self.shadow else self.rules
        return any(not {"minute", "hour"}.isdisjoint(rule.text.limits) for rule in rules)

    @classmethod
    def load(cls, layers: Sequence[PolicyLayer]) -> "Policy":
        """Read every layer. Raises UsageError with file and line; nothing is skipped."""
        files = [file for layer in layers for file in layer.read()]
        obeyed = cls.of(rule for file in files if not file.shadow for rule in file.rules)
        swaps = {swap.tool: swap for file in reversed(files) for swap in reversed(file.swaps)}
        tried = any(file.shadow for file in files)
        shadow = cls.of(rule for file in files for rule in file.rules) if tried else None
        return cls(obeyed.rules, obeyed.hash, shadow, tuple(swaps.values()))

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "Policy":
        """Return the policy of these rules."""
        kept = tuple(rules)
        said = [{"layer": rule.layer, "name": rule.name, **_said(rule)} for rule in kept]
        return cls(rules=kept, hash=hash_value(said))


def check(call: ToolCall, policy: Policy, now: Circumstances = _NEW) -> Decision:
    """Return the strictest decision among the rules that apply to `call`, the first of equals, or a denial."""
    rules = policy.concerning(call.name, now.purpose)
    changing = [rule for rule in rules if rule.text.verdict is Verdict.MODIFY]
    deciding = [rule for rule in rules if rule.text.verdict is not Verdict.MODIFY]
    try:
        settled = _settle(call, changing)
        others = _reachable(call, changing) if changing else ()
    except _RuleError as failed:
        return _decision(failed.rule, Verdict.DENY, str(failed))
    ruled = _ruled(settled.call, deciding, now)
    held = [found for each in others for found in _ruled(each, deciding, now) if found.verdict is not Verdict.ALLOW]
    strictest = max([*held, *ruled], key=_strictness, default=None)
    if strictest is None or (not ruled and strictest.verdict is not Verdict.DENY):
        return Decision(verdict=Verdict.DENY, reason=f"no rule allows this call of {call.name!r}")
    if settled.by is None or strictest.verdict is Verdict.DENY:
        return strictest
    arguments = settled.call.arguments
    if strictest.verdict is Verdict.ALLOW:
        strictest = _decision(settled.by, Verdict.MODIFY, settled.by.text.reason)
    return strictest.model_copy(update={"arguments": arguments})


def matching(call: ToolCall, policy: Policy, now: Circumstances = _NEW) -> list[Decision]:
    """Return what each rule that applies to `call` as it stands says of it, in order: what `check` chooses from."""
    return [
        _decision(rule, rule.text.verdict, rule.text.reason) if rule.text.verdict is Verdict.MODIFY else decided
        for rule in policy.concerning(call.name, now.purpose)
        if (decided := _decide(rule, call, now))
    ]


def offerable(tools: Iterable[str], policy: Policy, purpose: str = "work") -> tuple[str, ...]:
    """Return the tools that are not denied whatever their arguments in runs for `purpose`, in the order given."""
    return tuple(tool for tool in tools if _may_pass(tool, policy, purpose))


def _may_pass(tool: str, policy: Policy, purpose: str) -> bool:
    texts = [rule.text for rule in policy.concerning(tool, purpose)]
    denied = any(text.verdict is Verdict.DENY and text.unconditional for text in texts)
    return not denied and any(text.verdict in (Verdict.ALLOW, Verdict.ASK) for text in texts)


class _RuleError(Exception):
    """A rule that changes calls cannot be followed; `rule` is the one that failed."""

    def __init__(self, rule: Rule, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class _Settled:
    """What is left when no rule changes the call any more, and the last rule that did."""

    call: ToolCall
    by: Rule | None


def _settle(call: ToolCall, changing: Sequence[Rule]) -> _Settled:
    """Apply the first rule that changes the call until none does. Raises _RuleError."""
    found = _Settled(call, None)
    for _ in range(_MOST_REACHED):
        steps = ((rule, _changed(rule, found.call)) for rule in changing)
        following = next(((rule, made) for rule, made in steps if made != found.call), None)
        if following is None:
            return found
        found = _Settled(following[1], following[0])
    raise _RuleError(changing[0], f"the rules that change this call do not settle within {_MOST_REACHED} changes")


def _reachable(call: ToolCall, changing: Sequence[Rule]) -> list[ToolCall]:
    """Return the call and all that the rules make of it in any order. Raises _RuleError if there are too many."""
    found = [call]
    seen = {canonical_json(call.arguments)}
    for each in found:
        for rule in changing:
            made = _changed(rule, each)
            key = canonical_json(made.arguments)
            if key not in seen:
                seen.add(key)
                found.append(made)
            if len(found) > _MOST_REACHED:
                raise _RuleError(rule, f"the rules that change this call lead to more than {_MOST_REACHED} others")
    return found


def _changed(rule: Rule, call: ToolCall) -> ToolCall:
    try:
        return rule.changed(call) if rule.fits(call) else call
    except Exception as error:
        raise _RuleError(rule, _failure(error)) from error


def _ruled(call: ToolCall, rules: Sequence[Rule], now: Circumstances) -> list[Decision]:
    return [decision for rule in rules if (decision := _decide(rule, call, now))]


def _decide(rule: Rule, call: ToolCall, now: Circumstances) -> Decision | None:
    try:
        if not rule.fits(call):
            return None
    except Exception as error:
        # Whatever keeps a rule from being looked at must not keep it from forbidding.
        return _decision(rule, Verdict.DENY, _failure(error))
    spent = rule.spent(now)
    return _decision(rule, Verdict.DENY, spent) if spent else _decision(rule, rule.text.verdict, rule.text.reason)


def _failure(error: Exception) -> str:
    return f"the rule failed: {type(error).__name__}: {error}"


def _strictness(decision: Decision) -> int:
    return _STRICTNESS[decision.verdict]


def _decision(rule: Rule, verdict: Verdict, reason: str) -> Decision:
    return Decision(verdict=verdict, reason=reason, rule=rule.name, file=rule.file, line=rule.line, layer=rule.layer)


def _said(rule: Rule) -> dict[str, object]:
    """Return what a rule does: what it is called and its examples decide nothing."""
    return rule.text.model_dump(mode="json", exclude={"name", "match", "not_match"}, exclude_defaults=True)
