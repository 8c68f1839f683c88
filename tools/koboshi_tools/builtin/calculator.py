"""The calculator: exact arithmetic on text, by a parser and evaluator of its own, over fractions.

    sum     = product (("+" | "-") product)*
    product = unary (("*" | "/" | modulo) unary)*
    unary   = ("+" | "-") unary | power
    power   = postfix (("**" | "^") unary)?
    postfix = (number | "(" sum ")") percent*

A `%` before a number or a bracket is the modulo, any other divides by a hundred: `17 % 5` is 2, `80 * 15%` is 12.
Commas that part thousands are taken; any other comma is an error.

Covered: length, nesting, and the size of powers are bounded before anything is computed, so every expression is
evaluated in milliseconds. Not covered: functions, and powers that are not whole.
"""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from ..definition import tool
from ..errors import ToolError

MAX_LENGTH = 200
MAX_DEPTH = 24
MAX_POWER = 1000
# Some 600 decimal digits: more than any answer needs, and still computed at once.
MAX_BITS = 2048
MAX_DIGITS = 60
EXACT_PLACES = 20
SIGNIFICANT_DIGITS = 10

_TOKEN = re.compile(r"\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d*)?|\.\d+|\*\*|[-+*/%^()])", re.ASCII)


@tool
def calculator(expression: Annotated[str, Field(pattern=r"^[0-9+\-*/().,%^ ]{1,80}$")]) -> str:
    """Compute an arithmetic expression exactly."""
    return plain(evaluate(expression))


def evaluate(expression: str) -> Fraction:
    """Return the exact value of `expression`. Raises ToolError, for the model to read."""
    if len(expression) > MAX_LENGTH:
        raise ToolError(f"the expression has {len(expression)} characters; {MAX_LENGTH} are possible")
    parser = _Parser(_tokens(expression))
    if not parser.rest:
        raise ToolError("the expression is empty")
    value = parser.sum(0)
    if parser.rest:
        raise ToolError(f"did not expect {parser.rest[0]!r}")
    return value


def plain(value: Fraction) -> str:
    """Return a number without exponent: exact where it ends within 20 places, else rounded to 10 significant digits.

    Whole digits are never rounded away. Raises ToolError beyond 60 digits before or after the point.
    """
    if abs(value) >= 10**MAX_DIGITS:
        raise ToolError(f"the result is too large: it has more than {MAX_DIGITS} digits")
    if value.denominator == 1:
        return str(value.numerator)
    places = _exact_places(value)
    if places is None:
        places = _rounded_places(value)
    digits = str(abs(round(value * 10**places))).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 and text != "0" else text


class _Parser:
    """Takes tokens from the front of `rest`."""

    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while operator := self._take("+", "-"):
            other = self._product(depth)
            value = value + other if operator == "+" else value - other
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._unary(depth)
        while operator := self._take("*", "/", "%"):
            other = self._unary(depth)
            if operator != "*" and other == 0:
                raise ToolError("division by zero")
            value = value * other if operator == "*" else value / other if operator == "/" else value % other
        return value

    def _unary(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise ToolError(f"the expression is nested deeper than {MAX_DEPTH}")
        if sign := self._take("+", "-"):
            value = self._unary(depth + 1)
            return value if sign == "+" else -value
        base = self._postfix(depth)
        if self._take("**", "^"):
            return _power(base, self._unary(depth + 1))
        return base

    def _postfix(self, depth: int) -> Fraction:
        if self._take("("):
            value = self.sum(depth + 1)
            if not self._take(")"):
                raise ToolError("a bracket is not closed")
        else:
            value = self._number()
        while self.rest[:1] == ["%"] and not self._operand_follows():
            self.rest.pop(0)
            value /= 100
        return value

    def _number(self) -> Fraction:
        if not self.rest:
            raise ToolError("the expression ends too early")
        token = self.rest.pop(0)
        if token[0] not in "0123456789.":
            raise ToolError(f"expected a number, not {token!r}")
        return Fraction(token.replace(",", ""))

    def _operand_follows(self) -> bool:
        return len(self.rest) > 1 and self.rest[1][0] in "0123456789.("

    def _take(self, *wanted: str) -> str:
        return self.rest.pop(0) if self.rest and self.rest[0] in wanted else ""


def _tokens(expression: str) -> list[str]:
    text = expression.rstrip()
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ToolError(f"did not expect {text[position:].lstrip()[0]!r}")
        tokens.append(match[1])
        position = match.end()
    return tokens


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ToolError(f"the power {plain(exponent)} is not a whole number")
    if base == 0 and exponent < 0:
        raise ToolError("division by zero")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_POWER or (bits > 1 and bits * abs(exponent) > MAX_BITS):
        raise ToolError("the power is too large")
    return Fraction(base ** int(exponent))


def _exact_places(value: Fraction) -> int | None:
    """Return after how many decimals the number ends, or None if that is never or too late."""
    for places in range(1, EXACT_PLACES + 1):
        if 10**places % value.denominator == 0:
            return places
    return None


def _rounded_places(value: Fraction) -> int:
    whole = abs(value).__floor__()
    if whole:
        return max(SIGNIFICANT_DIGITS - len(str(whole)), 1)
    zeros = next((count for count in range(MAX_DIGITS) if abs(value) * 10 ** (count + 1) >= 1), None)
    if zeros is None:
        raise ToolError(f"the result is too small: it begins after more than {MAX_DIGITS} zeros")
    return zeros + SIGNIFICANT_DIGITS
