"""One rule of a policy, and when it applies to a call.

A rule applies if one of its globs matches the tool's name and every argument pattern is found (`re.search`) in the
text of that argument: a string as it is, anything else as canonical JSON. An argument that the call leaves out is
never found, whatever the verdict: write a deny that must not be dodged by leaving an argument out without a pattern.

Not covered: numbers that are equal and written differently, as 5 and 5.0, and the time of a pattern that backtracks.
Patterns are the operator's; a text of more than 100,000 characters fails the rule instead of being searched.
"""

import re
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, field_validator

from koboshi_tools import Frozen, ToolCall, canonical_json

from .decision import Verdict

MAX_ARGUMENT_CHARACTERS = 100_000


class RuleText(Frozen):
    """A rule as it is written under a `[[rule]]` header."""

    tools: tuple[str, ...] = Field(min_length=1)
    verdict: Literal[Verdict.ALLOW, Verdict.ASK, Verdict.DENY]
    name: str | None = Field(default=None, min_length=1)
    arguments: dict[str, str] = Field(default_factory=dict)
    reason: str = ""

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


class Rule(Frozen):
    """A rule with the place that it comes from; `line` is that of its header."""

    text: RuleText
    name: str
    layer: str
    file: str
    line: int

    def names(self, tool: str) -> bool:
        """Return whether the rule is about this tool."""
        return any(fnmatchcase(tool, glob) for glob in self.text.tools)

    def applies(self, call: ToolCall) -> bool:
        """Return whether the rule is about this call. Raises ValueError if an argument cannot be looked at."""
        return self.names(call.name) and all(
            argument in call.arguments and _found(pattern, argument, call)
            for argument, pattern in self.text.arguments.items()
        )


def _found(pattern: str, argument: str, call: ToolCall) -> bool:
    value = call.arguments[argument]
    text = value if isinstance(value, str) else canonical_json(value)
    if len(text) > MAX_ARGUMENT_CHARACTERS:
        raise ValueError(f"the argument {argument!r} has {len(text)} characters")
    return re.search(pattern, text) is not None
