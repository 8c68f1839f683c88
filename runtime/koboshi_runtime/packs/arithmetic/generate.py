"""Worded problems of one to three steps, each solved by one call of the calculator a step.

The splits share no wording and no name; `test_shapes` puts the operations together in ways that training never shows.
Levels and families take turns, so that any prefix of a file holds all of them evenly.
"""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from random import Random

from koboshi_tools import ToolCall

from ...checkers import NumberChecker
from ...tasks import Task
from ..demonstration import Demonstration, DemoTurn, first_unseen
from ..words import CONTAINERS, NAMES, THINGS
from .families import FAMILIES, SHAPES, Family, Numbers

SIZES: Mapping[str, int] = {"train": 2000, "dev": 200, "gate": 600, "test": 1500, "test_shapes": 300}
_WORDING = {"train": "train", "dev": "eval", "gate": "eval", "test": "test", "test_shapes": "shapes"}
_PARTS = ("open", "then", "ask")


def generate(split: str, count: int, seed: int) -> list[Task]:
    """Return `count` tasks of a file (`train`, `dev`, `gate`, `test`, `test_shapes`), no two with the same prompt."""
    families = SHAPES if split == "test_shapes" else FAMILIES
    return [solved.task for solved in _draw(split, families, count, Random(f"arithmetic {split} {seed}"))]


def demonstrations(count: int, seed: int) -> list[Demonstration]:
    """Return `count` solved tasks, told in the first half of the train wordings; training meets the rest alone."""
    return _draw("train", FAMILIES, count, Random(f"arithmetic demonstrations {seed}"), half=True)


def write_workspace(root: Path, seed: int) -> None:
    """Make the workspace: these problems need none but the folder."""
    root.mkdir(parents=True, exist_ok=True)


def _draw(
    split: str, families: tuple[Family, ...], count: int, rng: Random, *, half: bool = False
) -> list[Demonstration]:
    levels = [[family for family in families if family.level == level] for level in sorted({f.level for f in families})]
    solved: list[Demonstration] = []
    seen: set[str] = set()
    for index in range(count):
        among = levels[index % len(levels)]
        family = among[index // len(levels) % len(among)]
        name = f"{'demo' if half else split}-{index:04d}"
        found = first_unseen(partial(_solve, name, family, split, rng, half=half), seen)
        assert found is not None, f"{family.name} has too few problems for {count} tasks"
        solved.append(found)
    return solved


def _solve(name: str, family: Family, split: str, rng: Random, *, half: bool) -> Demonstration:
    numbers = family.draw(rng)
    prompt = _tell(family, numbers, split, rng, half=half)
    results: dict[str, int | Decimal] = dict(numbers)
    turns = []
    for index, step in enumerate(family.steps, start=1):
        left, right = results[step.left], results[step.right]
        expression = f"{written(step.left, left)}{step.operation}{written(step.right, right)}"
        results[str(index)] = _apply(step.operation, Decimal(left), Decimal(right))
        turns.append(DemoTurn(step.thought, ToolCall(name="calculator", arguments={"expression": expression})))
    answer = plain(results[str(len(family.steps))])
    task = Task(
        id=name,
        prompt=prompt,
        checker=NumberChecker(kind="number", answer=answer),
        tools=("calculator",),
        meta={"level": family.level, "family": family.name},
    )
    return Demonstration(task, (*turns, DemoTurn(f"The answer is {answer}.")))


def _tell(family: Family, numbers: Numbers, split: str, rng: Random, *, half: bool) -> str:
    parts = _wordings()[family.name][_WORDING[split]]
    chosen = [rng.choice(_first_half(parts[part]) if half else parts[part]) for part in _PARTS]
    many, one = rng.choice(CONTAINERS)
    person, other = rng.sample(NAMES[split], 2)
    thing, second = rng.sample(THINGS[split], 2)
    told = {key: written(key, value) for key, value in numbers.items()}
    return " ".join(chosen).format(n=person, m=other, t=thing, u=second, k=many, k1=one, **told)


def _first_half(wordings: list[str]) -> list[str]:
    return wordings[: (len(wordings) + 1) // 2]


@cache
def _wordings() -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads((Path(__file__).parent / "wording.toml").read_text(encoding="utf-8"))


def _apply(operation: str, left: Decimal, right: Decimal) -> Decimal:
    match operation:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right


def plain(value: int | Decimal) -> str:
    """Return a number as the calculator prints it: no exponent, no zeros at the end."""
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def written(key: str, value: int | Decimal) -> str:
    """Return a number as the problem tells it: a price (`p`, `q`) is whole or has two decimals."""
    return f"{value:.2f}" if key in "pq" and Decimal(value) != int(value) else plain(value)
