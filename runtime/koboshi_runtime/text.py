"""Make untrusted text safe to print.

Covered: control characters, escape sequences, line breaks that would forge a line, bidirectional overrides, invisible
format characters, lone surrogates. Not covered: characters that merely look alike.
"""

import unicodedata

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str, *, keep_lines: bool = False, width: int | None = None) -> str:
    r"""Return `text` with every character that a terminal could act on shown as an escape such as `\x1b`.

    Line feeds stay if `keep_lines`, else they are shown as `\n`. `width` cuts to so many characters, the last an
    ellipsis. Rich must be given the result as `rich.text.Text`, which reads no markup.
    """
    shown = "".join(character if _is_safe(character, keep_lines) else _escape(character) for character in text)
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def _is_safe(character: str, keep_lines: bool) -> bool:
    if character == "\n":
        return keep_lines
    return unicodedata.category(character) not in _UNSAFE


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
