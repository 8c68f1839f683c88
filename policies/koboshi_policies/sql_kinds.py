"""Which kinds of statement an SQL text holds, read token by token and not by its first word.

Strings, quoted names and comments are passed over, statements are told apart at `;`, and what stands behind `WITH`,
`EXPLAIN` or inside parentheses is found too. Where dialects read a text differently (a backslash before a quote,
`$tag$` quotes, `#`, `--` without a blank, comments within comments or run as code), and for everything that is not
named here, the kind is `other`.

Not covered: what functions do that a statement calls, and triggers and views that it meets.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

SqlKind = Literal["select", "insert", "update", "delete", "ddl", "other"]

_TOKEN = re.compile(
    r"(?P<space>\s+|--[^\n]*)"
    r"|(?P<comment>/\*.*?\*/)"
    r"|(?P<string>'(?:[^']|'')*')"
    r'|(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])'
    r"|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<number>\d\w*)"
    r"|(?P<mark>.)",
    re.DOTALL,
)
_FIRST_WORD: dict[str, frozenset[SqlKind]] = {
    "SELECT": frozenset({"select"}),
    "VALUES": frozenset({"select"}),
    "INSERT": frozenset({"insert"}),
    "REPLACE": frozenset({"insert", "update"}),
    "UPDATE": frozenset({"update"}),
    "DELETE": frozenset({"delete"}),
    "MERGE": frozenset({"insert", "update", "delete"}),
    "TRUNCATE": frozenset({"delete", "ddl"}),
    "CREATE": frozenset({"ddl"}),
    "ALTER": frozenset({"ddl"}),
    "DROP": frozenset({"ddl"}),
}
_WRITING = ("INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE")
_EXPLAINING = ("EXPLAIN", "QUERY", "PLAN", "ANALYZE", "VERBOSE")


class _Token(NamedTuple):
    """A word in capitals or a mark, with the depth of parentheses that it stands in."""

    text: str
    depth: int


def sql_kinds(text: str) -> frozenset[SqlKind]:
    """Return the kinds of all statements in `text`. Raises ValueError if there is none."""
    found: set[SqlKind] = set()
    statements = 0
    for statement in _statements(text, found):
        statements += 1
        found |= _kinds(statement)
    if not statements:
        raise ValueError("the text holds no SQL statement")
    return frozenset(found)


def _statements(text: str, found: set[SqlKind]) -> Iterator[list[_Token]]:
    """Yield the tokens of each statement; what dialects read differently adds `other` to `found`."""
    statement: list[_Token] = []
    depth = 0
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match[0]
        if _ambiguous(kind, token):
            found.add("other")
        if kind in ("space", "comment"):
            continue
        if token == ";":
            if statement:
                yield statement
            statement, depth = [], 0
            continue
        depth -= token == ")"
        statement.append(_Token(token.upper() if kind in ("word", "mark") else "", depth))
        depth += token == "("
    if statement:
        yield statement


def _ambiguous(kind: str | None, token: str) -> bool:
    match kind:
        case "space":
            # MySQL wants a blank behind the dashes, and PostgreSQL ends the comment at a carriage return.
            return token.startswith("--") and (token[2:3].strip() != "" or "\r" in token.rstrip("\r"))
        case "comment":
            return token.startswith("/*!") or "/*" in token[2:]
        case "string":
            return "\\'" in token
        case "name":
            return '\\"' in token if token[0] == '"' else token[0] == "[" and not set(token).isdisjoint("'\"`;")
        case "mark":
            # A quote or a bracket that stands alone has no end: the rest was read as if it were outside of it.
            return token in "#$'\"`[\\\0"
        case _:
            return False


def _kinds(statement: Sequence[_Token]) -> set[SqlKind]:
    words = [token.text for token in statement]
    first = _first_word(statement)
    found: set[SqlKind] = set(_FIRST_WORD.get(first, frozenset({"other"})))
    for before, word in zip(words, words[1:], strict=False):
        if before == "(" and word in _WRITING:
            found |= _FIRST_WORD[word]
        if before in ("DO", "KEY") and word == "UPDATE":
            found.add("update")
        if before == "OR" and word == "REPLACE" and first == "INSERT":
            found.add("update")
    if first in ("SELECT", "VALUES") and "INTO" in words:
        found.add("other")
    return found


def _first_word(statement: Sequence[_Token]) -> str:
    """Return the word that says what a statement does; behind WITH it is the first such word outside parentheses."""
    rest = list(statement)
    if rest[0].text == "EXPLAIN":
        while rest and (rest[0].text in _EXPLAINING or (rest[0].text == "(" and not _selects(rest))):
            rest = rest[1:] if rest[0].text != "(" else _behind_parentheses(rest)
    while rest and rest[0].text == "(":
        rest = rest[1:]
    if not rest:
        return ""
    if rest[0].text != "WITH":
        return rest[0].text
    outside = (token.text for token in rest[1:] if token.depth <= rest[0].depth)
    return next((word for word in outside if word in _FIRST_WORD), "")


def _selects(tokens: Sequence[_Token]) -> bool:
    return len(tokens) > 1 and tokens[1].text in ("SELECT", "WITH", "VALUES", "(")


def _behind_parentheses(tokens: Sequence[_Token]) -> list[_Token]:
    depth = tokens[0].depth
    end = next((at for at, token in enumerate(tokens) if token.text == ")" and token.depth == depth), len(tokens))
    return list(tokens[end + 1 :])
