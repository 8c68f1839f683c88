"""When two JSON values are the same.

`same_json`: 5 is 5.0, true is not 1, strings to the letter. `same_argument`: the same, with strings trimmed and
case-folded, inside lists and objects too; the keys of objects are compared to the letter.
"""

from collections.abc import Callable
from typing import Any


def same_json(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal, numbers by value."""
    return _same(left, right, text=str)


def same_argument(left: Any, right: Any) -> bool:
    """Return whether two arguments of a call are equal: numbers by value, strings trimmed and case-folded."""
    return _same(left, right, text=lambda value: value.strip().casefold())


def _same(left: Any, right: Any, *, text: Callable[[str], str]) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if isinstance(left, str) and isinstance(right, str):
        return text(left) == text(right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(_same(a, b, text=text) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key], text=text) for key in left)
    return left is None and right is None
