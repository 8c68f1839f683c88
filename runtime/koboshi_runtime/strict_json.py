"""JSON as koboshi takes it in: one meaning or none.

A repeated key, NaN, an infinity (also one written as 1e999), text that is not Unicode and nesting that Python cannot
follow are all refused, because each of them would be read differently by another reader of the same file.
"""

import json
import math
from typing import Any, NoReturn


def loads(text: str, *, any_text: bool = False) -> Any:
    """Return the value of one JSON text; ValueError says what is wrong with it.

    `any_text` takes strings that are no Unicode text as well: a stored output may hold bytes that are not UTF-8.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        if any_text:
            return value
        text.encode()
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("a string holds half of a surrogate pair, which is not Unicode text") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key!r} is given twice")
        value[key] = item
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value
