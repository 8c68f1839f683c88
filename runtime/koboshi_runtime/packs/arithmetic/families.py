"""The families of problems: which numbers are drawn, and in which steps they are solved.

A step is one operation on two operands, each a drawn number (`a`, `p`, ...) or an earlier step's result (`1`, `2`).
Every division comes out even, and every difference is positive.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random

Numbers = Mapping[str, int | Decimal]


@dataclass(frozen=True, slots=True)
class SolvingStep:
    """One call of the calculator: `left` `operation` `right`, and the thought that leads to it."""

    thought: str
    left: str
    operation: str
    right: str


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of problem. `level` is the number of its steps, or 4 for the shapes that are never trained on."""

    name: str
    level: int
    draw: Callable[[Random], Numbers]
    steps: tuple[SolvingStep, ...]


def _add(left: str, right: str) -> SolvingStep:
    return SolvingStep("More came, so add.", left, "+", right)


def _together(left: str, right: str) -> SolvingStep:
    return SolvingStep("Both together, so add.", left, "+", right)


def _subtract(left: str, right: str) -> SolvingStep:
    return SolvingStep("Some went, so subtract.", left, "-", right)


def _fewer(left: str, right: str) -> SolvingStep:
    return SolvingStep("The other has fewer, so subtract.", left, "-", right)


def _multiply(left: str, right: str) -> SolvingStep:
    return SolvingStep("That many for each, so multiply.", left, "*", right)


def _times(left: str, right: str) -> SolvingStep:
    return SolvingStep("The other has more times, so multiply.", left, "*", right)


def _divide(left: str, right: str) -> SolvingStep:
    return SolvingStep("Shared equally, so divide.", left, "/", right)


def _money(rng: Random, low: int, high: int) -> int | Decimal:
    """A price in dollars: whole half of the time, otherwise with two decimals."""
    return rng.randint(low, high) if rng.random() < 0.5 else Decimal(rng.randrange(low * 100 + 5, high * 100, 5)) / 100


def _two(rng: Random) -> Numbers:
    a = rng.randint(20, 480)
    return {"a": a, "b": rng.randint(5, a - 6)}


def _groups(rng: Random) -> Numbers:
    return {"a": rng.randint(6, 48), "b": rng.randint(3, 19)}


def _share(rng: Random) -> Numbers:
    b = rng.randint(3, 12)
    return {"a": b * rng.randint(6, 60), "b": b}


def _cost(rng: Random) -> Numbers:
    return {"b": rng.randint(3, 19), "p": _money(rng, 2, 24)}


def _change(rng: Random) -> Numbers:
    return {"p": _money(rng, 40, 190), "q": _money(rng, 3, 38)}


def _pack(rng: Random) -> Numbers:
    a, b = rng.randint(6, 38), rng.randint(3, 14)
    return {"a": a, "b": b, "c": rng.randint(4, a * b - 5)}


def _gain_share(rng: Random) -> Numbers:
    c, each = rng.randint(3, 12), rng.randint(6, 50)
    a = rng.randint(8, c * each - 6)
    return {"a": a, "b": c * each - a, "c": c}


def _times_numbers(rng: Random) -> Numbers:
    return {"a": rng.randint(8, 95), "b": rng.randint(3, 9)}


def _pay_many(rng: Random) -> Numbers:
    b, p = rng.randint(3, 12), _money(rng, 2, 15)
    return {"b": b, "p": p, "q": int(b * p) + rng.randint(3, 60)}


def _two_kinds(rng: Random) -> Numbers:
    return {"a": rng.randint(2, 12), "p": _money(rng, 2, 15), "b": rng.randint(2, 12), "q": _money(rng, 2, 15)}


def _pack_less_share(rng: Random) -> Numbers:
    a, b, d = rng.randint(9, 38), rng.randint(3, 12), rng.randint(2, 9)
    most = (a * b - 4) // d
    return {"a": a, "b": b, "c": a * b - d * rng.randint(max(2, most // 3), most), "d": d}


def _gain_loss_pay(rng: Random) -> Numbers:
    a, b = rng.randint(8, 60), rng.randint(5, 40)
    return {"a": a, "b": b, "c": rng.randint(3, (a + b) // 2), "p": _money(rng, 2, 9)}


def _save_gain_loss(rng: Random) -> Numbers:
    a, b = rng.randint(6, 45), rng.randint(3, 12)
    return {"a": a, "b": b, "c": rng.randint(4, 60), "d": rng.randint(5, a * b - 4)}


def _loss_loss(rng: Random) -> Numbers:
    b, c = rng.randint(5, 90), rng.randint(5, 90)
    return {"a": b + c + rng.randint(6, 300), "b": b, "c": c}


def _three(rng: Random) -> Numbers:
    return {"a": rng.randint(8, 300), "b": rng.randint(5, 120), "c": rng.randint(5, 120)}


def _loss_groups(rng: Random) -> Numbers:
    b, rest = rng.randint(2, 12), rng.randint(3, 20)
    return {"a": b + rest, "b": b, "c": rng.randint(6, 40)}


def _share_gain(rng: Random) -> Numbers:
    return {**_share(rng), "c": rng.randint(4, 60)}


def _loss_share(rng: Random) -> Numbers:
    c, b = rng.randint(3, 9), rng.randint(4, 60)
    return {"a": b + c * rng.randint(5, 50), "b": b, "c": c}


def _groups_groups(rng: Random) -> Numbers:
    return {"a": rng.randint(2, 8), "b": rng.randint(3, 12), "c": rng.randint(4, 20)}


def _groups_share(rng: Random) -> Numbers:
    a, c = rng.randint(3, 12), rng.randint(2, 9)
    return {"a": a, "b": c * rng.randint(2, 12), "c": c}


def _gain_many_less(rng: Random) -> Numbers:
    a, b, c = rng.randint(4, 25), rng.randint(2, 12), rng.randint(2, 12)
    return {"a": a, "b": b, "c": c, "d": rng.randint(3, a * (b + c) // 2)}


FAMILIES: tuple[Family, ...] = (
    Family("gain", 1, _two, (_add("a", "b"),)),
    Family("loss", 1, _two, (_subtract("a", "b"),)),
    Family("groups", 1, _groups, (_multiply("b", "a"),)),
    Family("share", 1, _share, (_divide("a", "b"),)),
    Family("cost", 1, _cost, (_multiply("b", "p"),)),
    Family("change", 1, _change, (_subtract("p", "q"),)),
    Family("pack_more", 2, _pack, (_multiply("b", "a"), _add("1", "c"))),
    Family("pack_less", 2, _pack, (_multiply("b", "a"), _subtract("1", "c"))),
    Family("gain_share", 2, _gain_share, (_add("a", "b"), _divide("1", "c"))),
    Family("times", 2, _times_numbers, (_times("a", "b"), _together("1", "a"))),
    Family("fewer", 2, _two, (_fewer("a", "b"), _together("1", "a"))),
    Family("pay_many", 2, _pay_many, (_multiply("b", "p"), _subtract("q", "1"))),
    Family("two_kinds", 3, _two_kinds, (_multiply("a", "p"), _multiply("b", "q"), _together("1", "2"))),
    Family("pack_less_share", 3, _pack_less_share, (_multiply("b", "a"), _subtract("1", "c"), _divide("2", "d"))),
    Family("gain_loss_pay", 3, _gain_loss_pay, (_add("a", "b"), _subtract("1", "c"), _multiply("2", "p"))),
    Family("save_gain_loss", 3, _save_gain_loss, (_multiply("b", "a"), _add("1", "c"), _subtract("2", "d"))),
)

SHAPES: tuple[Family, ...] = (
    Family("loss_loss", 4, _loss_loss, (_subtract("a", "b"), _subtract("1", "c"))),
    Family("gain_gain", 4, _three, (_add("a", "b"), _add("1", "c"))),
    Family("loss_groups", 4, _loss_groups, (_subtract("a", "b"), _multiply("1", "c"))),
    Family("share_gain", 4, _share_gain, (_divide("a", "b"), _add("1", "c"))),
    Family("loss_share", 4, _loss_share, (_subtract("a", "b"), _divide("1", "c"))),
    Family("groups_groups", 4, _groups_groups, (_multiply("a", "b"), _multiply("1", "c"))),
    Family("groups_share", 4, _groups_share, (_multiply("a", "b"), _divide("1", "c"))),
    Family("gain_many_less", 4, _gain_many_less, (_together("b", "c"), _multiply("1", "a"), _subtract("2", "d"))),
)
