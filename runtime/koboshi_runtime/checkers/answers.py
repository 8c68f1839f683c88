"""Judging the final answer's text: number, exact, regex, one_of, json. Pure functions; None means that it is right."""

import re
from decimal import Decimal

from .. import strict_json
from .numbers import last_number, whole_number
from .schema import schema_problems
from .specs import ExactChecker, JsonChecker, NumberChecker, OneOfChecker, RegexChecker
from .values import same_json

_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)
_SHOWN = 80


def wrong_number(checker: NumberChecker, answer: str) -> str | None:
    """Return why the last number of `answer` is not the expected one."""
    found, expected = last_number(answer), whole_number(str(checker.answer))
    assert expected is not None, "the checker was validated"
    if found is None:
        return f"no number in {shown(answer)}"
    margin = max(Decimal(str(checker.tolerance)), Decimal(str(checker.relative_tolerance)) * abs(expected))
    return None if abs(found - expected) <= margin else f"{found} is not {expected}"


def wrong_text(checker: ExactChecker, answer: str) -> str | None:
    """Return why `answer` is not the expected text."""
    return None if answer.strip() == checker.answer.strip() else f"{shown(answer)} is not {shown(checker.answer)}"


def wrong_pattern(checker: RegexChecker, answer: str) -> str | None:
    """Return why `answer` does not hold the pattern."""
    return None if re.search(checker.pattern, answer) else f"{checker.pattern!r} is not found in {shown(answer)}"


def wrong_choice(checker: OneOfChecker, answer: str) -> str | None:
    """Return why `answer` is none of the accepted texts."""
    found = _folded(answer)
    return None if found in map(_folded, checker.answers) else f"{shown(answer)} is none of {list(checker.answers)!r}"


def wrong_json(checker: JsonChecker, answer: str) -> str | None:
    """Return why `answer` is not the JSON that is asked for; a code fence around it is ignored."""
    fenced = _FENCE.match(answer.strip())
    try:
        value = strict_json.loads(fenced[1] if fenced else answer.strip())
    except ValueError as error:
        return str(error)
    if "answer" in checker.model_fields_set and not same_json(value, checker.answer):
        return f"{shown(answer)} is not {checker.answer!r}"
    problems = schema_problems(value, checker.json_schema) if checker.json_schema is not None else ()
    return "; ".join(problems[:3]) or None


def shown(text: str) -> str:
    """Return `text` quoted and cut to what fits a rationale."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def _folded(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").casefold()
