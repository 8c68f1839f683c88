"""Keep secrets out of everything that is stored: what leaves here holds none that we know.

Applied by the store to every text, argument and answer before the first write (`store.codecs`), so that no file of the
home ever held one; the run itself goes on with the real value. A secret becomes `[redacted KIND]`. Ids cannot be
redacted in part, so a stretch of ids whose text held a secret is stored without ids, and its run is marked: it is
never learnt from, and cannot be resumed, because what the model was told is not there (`docs/decisions/0065`).

There is one redactor for the process: what one part of it may not write, no part may. It knows the shapes of
`secret_shapes`, the values of the environment's secrets, and the patterns of `[redact]` in the configuration, which
`use` sets.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

from .secret_shapes import NAMED_SECRET, SHAPES, Shape, secret_values, suspicious

_REDACTED = "[redacted {}]"
_WHOLE = _REDACTED.format("text")
_KEPT_CHARACTERS = 65_536
"""Longest text whose answer is remembered: system prompts come again with each run, a tool's long output does not."""

_LEAST_PASSWORD = 4
"""Characters; the shapes of `secret_shapes` ask for as many."""

_CUT = 8
"""Characters of a known value that betray it where a text was cut in its middle."""

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes secrets out of texts and JSON values.

    `values` are secrets known by heart, `patterns` what somebody else holds for secret, `keep` what is none though it
    looks like one.
    """

    values: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()
    keep: tuple[re.Pattern[str], ...] = ()
    _spellings: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        spellings = {spelling for value in self.values for spelling in _spelt(value)}
        object.__setattr__(self, "_spellings", tuple(sorted(spellings, key=lambda text: (-len(text), text))))

    def text(self, text: str) -> str:
        """Return `text` without its secrets; the same object if there are none."""
        if not self._looks_bad(text):
            return text
        return self._remembered(text) if len(text) <= _KEPT_CHARACTERS else self._redacted(text)

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets in its texts, and without the texts that their names call secret."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(name): self._named(name, each) for name, each in value.items()}
            case list() | tuple():
                return [self.value(each) for each in value]
            case _:
                return value

    def json(self, value: Any) -> str:
        """Return `value` as readable JSON without secrets, its keys in their own order."""
        text = json.dumps(value, ensure_ascii=False)
        if not self.patterns and not self._looks_bad(text):
            return text
        return json.dumps(self.value(value), ensure_ascii=False)

    def finds(self, value: Any) -> bool:
        """Return whether a JSON value holds a secret."""
        text = json.dumps(value, ensure_ascii=False)
        if not self.patterns and not self._looks_bad(text):
            return False
        return json.dumps(self.value(value), ensure_ascii=False) != text

    def _looks_bad(self, text: str) -> bool:
        if suspicious(text.encode("utf-8", "surrogatepass")) or "\\u" in text:
            return True
        known = any(spelling[:_CUT] in text for spelling in self._spellings)
        return known or any(pattern.search(text) for pattern in self.patterns)

    @lru_cache(maxsize=64)  # noqa: B019 - the redactor lives as long as the process
    def _remembered(self, text: str) -> str:
        return self._redacted(text)

    def _redacted(self, text: str) -> str:
        found = self._plain(text)
        if "\\u" in found:
            # JSON may spell any letter by its number, and whoever reads it sees the letter.
            spelt = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), found)
            if self._plain(spelt) != spelt:
                return _WHOLE
        return found

    def _plain(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, _REDACTED.format("variable"))
            at = text.rfind(spelling[:_CUT])
            if at >= 0 and spelling.startswith(text[at:]):
                text = text[:at] + _REDACTED.format("variable")
        for pattern in self.patterns:
            text = pattern.sub(_REDACTED.format("pattern"), text)
        lowered = text.lower()
        for shape in SHAPES:
            if any(hint in lowered for hint in shape.hints):
                text = shape.pattern.sub(partial(self._instead, shape), text)
        return text

    def _instead(self, shape: Shape, match: re.Match[str]) -> str:
        inner = "secret" if "secret" in match.re.groupindex else 0
        if self._is_kept(match[inner]):
            return match[0]
        before, after = match.string[match.start() : match.start(inner)], match.string[match.end(inner) : match.end()]
        return before + _REDACTED.format(shape.kind) + after

    def _is_kept(self, secret: str) -> bool:
        return secret.startswith("[redacted ") or any(pattern.search(secret) for pattern in self.keep)

    def _named(self, name: str, value: Any) -> Any:
        if (
            isinstance(value, str)
            and len(value) >= _LEAST_PASSWORD
            and NAMED_SECRET.match(name)
            and self.text(value) == value
        ):
            return value if self._is_kept(value) else _REDACTED.format("password")
        return self.value(value)


_active: list[Redactor] = []


def redactor() -> Redactor:
    """Return the redactor of this process."""
    if not _active:
        _active.append(Redactor(values=secret_values(os.environ)))
    return _active[0]


def use(patterns: Sequence[str] = (), keep: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
    """Have this process redact what matches `patterns` as well, but nothing that matches `keep`."""
    kept = _compiled(keep)
    values = secret_values(os.environ if environment is None else environment)
    values = tuple(value for value in values if not any(pattern.search(value) for pattern in kept))
    found = Redactor(values=values, patterns=_compiled(patterns), keep=kept)
    if not _active or _active[0] != found:
        _active[:] = [found]


def _compiled(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


def _spelt(value: str) -> set[str]:
    """Return the ways in which a value may stand in a text: as it is, inside JSON, inside a URL."""
    return {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value, safe="")}
