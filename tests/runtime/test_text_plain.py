import pytest

from koboshi_runtime.text import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]8;;http://a\x07link", "\\x1b]8;;http://a\\x07link"),
        ("a\u202eb", "a\\u202eb"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\udcff", "\\udcff"),
        ("\x9b31m", "\\x9b31m"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("naïve 日本", "naïve 日本"),
    ],
)
def test_what_a_terminal_could_act_on_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_may_be_kept() -> None:
    assert plain("one\ntwo\t", keep_lines=True) == "one\ntwo\\t"


def test_text_is_cut_to_the_width_with_an_ellipsis() -> None:
    assert plain("abcdef", width=4) == "abc…"


def test_text_that_fits_is_not_cut() -> None:
    assert plain("abcd", width=4) == "abcd"
