"""One rule of a policy, and when it applies to a call.

A rule applies if one of its globs matches the tool's name, the run is for one of its purposes, every argument pattern
is found (`re.search`) in the text of that argument (a string as it is, anything else as canonical JSON), and every
condition of `where` holds (`conditions`). An argument that the call leaves out is never found, whatever the verdict:
write a deny that must not be dodged by leaving an argument out without a pattern.

Not covered: numbers that are equal and written differently, as 5 and 5.0, under a pattern, and the time of a pattern
that backtracks. Patterns are the operator's; a text of more than 100,000 characters fails the rule.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, field_validator, model_validator

from koboshi_tools import Frozen, ToolCall, canonical_json

from .changes import Bounds, Changes
from .circumstances import Circumstances, PurposeName
from .conditions import Condition
from .decision import Verdict

MAX_ARGUMENT_CHARACTERS = 100_000


class Example(Frozen):
    """A call that a rule must apply to, or must not. `becomes` are the arguments that a `modify` makes of it.

    `tool` may be left out where the rule names one tool; `purpose` is by default the rule's first, or `work`.
    """

    tool: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    purpose: PurposeName | None = None
    becomes: dict[str, Any] | None = None


class RuleText(Frozen):
    """A rule as it is written under a `[[rule]]` header."""

    tools: tuple[str, ...] = Field(min_length=1)
    verdict: Verdict
    name: str | None = Field(default=None, min_length=1)
    purposes: tuple[PurposeName, ...] = ()
    arguments: dict[str, str] = Field(default_factory=dict)
    where: dict[str, Condition] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    set: dict[str, Any] = Field(default_factory=dict)
    clamp: dict[str, Bounds] = Field(default_factory=dict)
    calls_per_run: int | None = Field(default=None, ge=1)
    calls_per_minute: int | None = Field(default=None, ge=1)
    calls_per_hour: int | None = Field(default=None, ge=1)
    reason: str = ""
    match: tuple[Example, ...] = ()
    not_match: tuple[Example, ...] = ()

    @field_validator("tools")
    @classmethod
    def _no_empty_glob(cls, globs: tuple[str, ...]) -> tuple[str, ...]:
        if not all(globs):
            raise ValueError("a tool name is empty")
        return globs

    @field_validator("arguments")
    @classmethod
    def _patterns_compile(cls, arguments: dict[str, str]) -> dict[str, str]:
        for argument, pattern in arguments.items():
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"the pattern of {argument!r} is not a regular expression: {error}") from error
        return arguments

    @field_validator("set")
    @classmethod
    def _values_are_json(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            canonical_json(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a value is not JSON: {error}") from error
        return values

    @model_validator(mode="after")
    def _fits_the_verdict(self) -> "RuleText":
        changes = bool(self.drop or self.set or self.clamp)
        if changes != (self.verdict is Verdict.MODIFY):
            raise ValueError(
                "drop, set and clamp belong to the verdict modify"
                if changes
                else "the verdict modify needs drop, set or clamp"
            )
        if self.limits and self.verdict not in (Verdict.ALLOW, Verdict.ASK):
            raise ValueError("calls_per_run, calls_per_minute and calls_per_hour belong to the verdicts allow and ask")
        for example in (*self.match, *self.not_match):
            if example.tool is None and (len(self.tools) > 1 or set(self.tools[0]) & set("*?[")):
                raise ValueError("an example names no tool, and the rule does not name exactly one")
        return self

    @property
    def limits(self) -> dict[str, int]:
        """How many calls the rule permits, by the span that they are counted over."""
        spans = {"run": self.calls_per_run, "minute": self.calls_per_minute, "hour": self.calls_per_hour}
        return {span: most for span, most in spans.items() if most is not None}

    @property
    def unconditional(self) -> bool:
        """Whether the rule applies to every call of its tools and purposes."""
        return not self.arguments and not self.where


class Rule(Frozen):
    """A rule with the place that it comes from; `line` is that of its header."""

    text: RuleText
    name: str
    layer: str
    file: str
    line: int

    def names(self, tool: str) -> bool:
        """Return whether the rule is about this tool."""
        return tool in self.text.tools or any(fnmatchcase(tool, glob) for glob in self.text.tools)

    def concerns(self, tool: str, purpose: str) -> bool:
        """Return whether the rule is about this tool in runs for this purpose."""
        return (not self.text.purposes or purpose in self.text.purposes) and self.names(tool)

    def applies(self, call: ToolCall, purpose: str = "work") -> bool:
        """Return whether the rule is about this call. Raises ValueError if an argument cannot be looked at."""
        return self.concerns(call.name, purpose) and self.fits(call)

    def fits(self, call: ToolCall) -> bool:
        """Do `applies` for a rule that is known to concern the call's tool and purpose. Raises ValueError."""
        return all(_found(pattern, argument, call) for argument, pattern in self.text.arguments.items()) and all(
            self._holds(condition, argument, call) for argument, condition in self.text.where.items()
        )

    def changed(self, call: ToolCall) -> ToolCall:
        """Return the call as the rule changes it. Raises ValueError if it cannot."""
        changes = Changes(drop=self.text.drop, set=self.text.set, clamp=self.text.clamp)
        return ToolCall(name=call.name, arguments=changes.apply(call.arguments))

    def spent(self, now: Circumstances) -> str | None:
        """Return which of the rule's limits is reached, as a reason, or None. Counted are all calls of its tools."""
        counts: dict[str, Mapping[str, int]] = {"run": now.in_run, "minute": now.last_minute, "hour": now.last_hour}
        for span, most in self.text.limits.items():
            made = sum(count for tool, count in counts[span].items() if self.names(tool))
            if made >= most:
                return f"{made} calls were made in this {span}, and {most} are allowed"
        return None

    def _holds(self, condition: Condition, argument: str, call: ToolCall) -> bool:
        if argument not in call.arguments:
            return False
        needed = all if self.text.verdict is Verdict.ALLOW else any
        return needed(condition.findings(call.arguments[argument]))


def _found(pattern: str, argument: str, call: ToolCall) -> bool:
    if argument not in call.arguments:
        return False
    value = call.arguments[argument]
    text = value if isinstance(value, str) else canonical_json(value)
    if len(text) > MAX_ARGUMENT_CHARACTERS:
        raise ValueError(f"the argument {argument!r} has {len(text)} characters")
    return re.search(pattern, text) is not None
