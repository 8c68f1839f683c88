"""The answer of a policy to one call, and where it comes from."""

from enum import StrEnum
from typing import Any

from koboshi_tools.values import Frozen


class Verdict(StrEnum):
    """What may happen to a call; the order of strictness is deny, ask, modify, allow."""

    ALLOW = "allow"
    MODIFY = "modify"
    ASK = "ask"
    DENY = "deny"


class Answer(StrEnum):
    """What became of an `ask`: a person said yes or no, the question grew too old, or nobody was there to be asked."""

    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNATTENDED = "unattended"


class Decision(Frozen):
    """A verdict with the rule that decided; `rule`, `file` and `line` are None where no rule matched.

    `arguments` are those that the call is made with where a rule changed them. `asked` is what became of an `ask`; the
    verdict is then the one that holds, allow or deny.
    """

    verdict: Verdict
    reason: str
    rule: str | None = None
    file: str | None = None
    line: int | None = None
    layer: str | None = None
    arguments: dict[str, Any] | None = None
    asked: Answer | None = None

    @property
    def permits(self) -> bool:
        """Whether the call may be made, changed or not."""
        return self.verdict in (Verdict.ALLOW, Verdict.MODIFY)
