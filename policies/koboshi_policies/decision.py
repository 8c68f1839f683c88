"""The answer of a policy to one call, and where it comes from."""

from enum import StrEnum

from koboshi_tools.values import Frozen


class Verdict(StrEnum):
    """What may happen to a call; the order of strictness is deny, ask, modify, allow."""

    ALLOW = "allow"
    MODIFY = "modify"
    ASK = "ask"
    DENY = "deny"


class Decision(Frozen):
    """A verdict with the rule that decided; `rule`, `file` and `line` are None where no rule matched."""

    verdict: Verdict
    reason: str
    rule: str | None = None
    file: str | None = None
    line: int | None = None
    layer: str | None = None
