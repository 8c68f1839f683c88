"""The last number of a text.

Thousands commas, currency signs, a percent sign and units are ignored; a minus counts unless it stands between two
things (`10-12` ends with 12). `1.5e3` is 1500. Fractions, words and digits of other scripts are not numbers.
"""

import re
from decimal import Decimal

_CURRENCY = "$€£¥₹"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)\]])[-−+])?(?:[{_CURRENCY}]\s?)?(?P<inner>(?<=[{_CURRENCY}])[-−])?"
    r"(?P<digits>(?<![0-9.])(?:[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
    r"(?P<power>[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z]))?"
)


def last_number(text: str) -> Decimal | None:
    """Return the last number of `text`, or None where it holds none."""
    found = list(_NUMBER.finditer(text))
    return _value(found[-1]) if found else None


def whole_number(text: str) -> Decimal | None:
    """Return the number that `text` is, with nothing else around it but white space and a percent sign, or None."""
    match = _NUMBER.fullmatch(text.strip().removesuffix("%").rstrip())
    return _value(match) if match else None


def _value(match: re.Match[str]) -> Decimal:
    negative = "-" in (signs := (match["sign"] or "") + (match["inner"] or "")) or "−" in signs
    value = Decimal(match["digits"].replace(",", "") + (match["power"] or ""))
    return -value if negative else value
