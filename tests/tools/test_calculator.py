"""The calculator against Python's own fractions, and what it refuses."""

from contextlib import suppress
from fractions import Fraction
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koboshi_tools import ToolError
from koboshi_tools.builtin.calculator import evaluate, plain

NUMBERS = st.decimals(min_value=0, max_value=9999, places=2).map(str) | st.integers(0, 9999).map(str)


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, st.sampled_from([" + ", "-", "*", "/"]), inner).map("".join)
    return pair | inner.map(lambda text: f"({text})") | inner.map(lambda text: f"-({text})")


EXPRESSIONS = st.recursive(NUMBERS, combined, max_leaves=8)


def by_python(expression: str) -> Fraction | None:
    """Evaluate with Python's grammar over fractions; None where it divides by zero."""
    source = "".join(f"F('{part}')" if part[0].isdigit() else part for part in split(expression))
    try:
        return Fraction(eval(source, {"F": Fraction}))
    except ZeroDivisionError:
        return None


def split(expression: str) -> list[str]:
    parts: list[str] = []
    for character in expression.replace(" ", ""):
        if parts and (character.isdigit() or character == ".") and parts[-1][-1] in "0123456789.":
            parts[-1] += character
        else:
            parts.append(character)
    return parts


@settings(deadline=None)
@given(EXPRESSIONS.filter(lambda text: len(text) <= 200))
def test_it_agrees_with_fractions(expression: str) -> None:
    expected = by_python(expression)
    if expected is None:
        with pytest.raises(ToolError, match="division by zero"):
            evaluate(expression)
    else:
        assert evaluate(expression) == expected


@settings(deadline=None)
@given(st.integers(-(10**40), 10**40), st.integers(0, 20))
def test_a_number_that_ends_is_printed_exactly(digits: int, places: int) -> None:
    value = Fraction(digits, 10**places)
    printed = plain(value)
    assert Fraction(printed) == value
    assert "e" not in printed.lower()


@settings(deadline=None)
@given(st.fractions(max_denominator=10**6).filter(bool))
def test_a_rounded_number_is_right_to_ten_digits_and_keeps_its_whole_part(value: Fraction) -> None:
    assert abs(Fraction(plain(value)) - value) <= max(abs(value) / 10**9, Fraction(0))
    assert abs(Fraction(plain(value)) - value) <= Fraction(1, 10)


@settings(deadline=None)
@given(st.text(alphabet="0123456789+-*/().,%^ ", max_size=200))
def test_any_text_is_answered_or_refused_quickly(text: str) -> None:
    started = perf_counter()
    with suppress(ToolError):
        plain(evaluate(text))
    assert perf_counter() - started < 1


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("0.1 + 0.2", "0.3"),
        ("1,250.50 * 2", "2501"),
        ("80 * 15%", "12"),
        ("15% * 80", "12"),
        ("17 % 5", "2"),
        ("50%-3", "-2.5"),
        ("-2 ** 2", "-4"),
        ("2 ^ 3 ^ 2", "512"),
        ("2 ** -2", "0.25"),
        ("10 / 3", "3.333333333"),
        ("1 / 3000", "0.0003333333333"),
        ("-1 / 3", "-0.3333333333"),
        ("2 / 3 * 300", "200"),
        ("1000000000000 / 7", "142857142857.1"),
        ("5.", "5"),
        (".5", "0.5"),
        ("7 / 1 / 2", "3.5"),
        ("--3", "3"),
        ("1 ** 1000", "1"),
        ("0 * -1", "0"),
    ],
)
def test_known_answers(expression: str, printed: str) -> None:
    assert plain(evaluate(expression)) == printed


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("9 ** 9 ** 9", "power is too large"),
        ("2 ** 100000", "power is too large"),
        ("2 ** 0.5", "not a whole number"),
        ("(1 + 2", "bracket is not closed"),
        ("1 + 2)", "did not expect '\\)'"),
        ("1 +", "ends too early"),
        ("3 4", "did not expect '4'"),
        ("1,23", "did not expect ','"),
        ("1,2345", "did not expect ','"),
        ("* 3", "expected a number, not '\\*'"),
        ("__import__", "did not expect '_'"),
        ("٣ + 1", "did not expect '٣'"),
        ("(" * 100 + "1" + ")" * 100, "characters"),
        ("(" * 60 + "1" + ")" * 60, "nested deeper"),
        ("-" * 100 + "1", "nested deeper"),
        ("10 ** 70", "too large"),
        ("10 ** -99", "too small"),
    ],
)
def test_what_cannot_be_computed_is_said(expression: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        plain(evaluate(expression))
