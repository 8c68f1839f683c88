"""Questions on the shop of each split, with the calls that answer them.

The splits share no wording and no row; `test_shapes` asks what training never asks, of the shop of `test`. Levels and
families take turns; a family that has no new question left gives its turn to the next one of its level.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from random import Random

from koboshi_tools import ToolCall

from ...checkers import Checker, NumberChecker, RegexChecker
from ...tasks import Task
from ..demonstration import Demonstration, DemoTurn, first_unseen
from .families import FAMILIES, SHAPES, Family, Question, SolvingCall
from .world import make_world, write_world

SIZES: Mapping[str, int] = {"train": 1500, "dev": 200, "gate": 600, "test": 600, "test_shapes": 300}
DATABASE = "shop.db"
_WORLDS = {"train": "train", "dev": "dev", "gate": "gate", "test": "test", "test_shapes": "test"}
_WORDING = {"train": "train", "dev": "eval", "gate": "eval", "test": "test", "test_shapes": "shapes"}
_ARGUMENT = {"sql": "query", "calculator": "expression"}
_NONE = r"(?i)\b(no|none|not|nobody)\b|n't\b"


def generate(split: str, count: int, seed: int) -> list[Task]:
    """Return `count` tasks of a file (`train`, `dev`, `gate`, `test`, `test_shapes`), no two with the same prompt."""
    families = SHAPES if split == "test_shapes" else FAMILIES
    drawer = _Drawer(split, seed, Random(f"shop {split} {seed}"))
    return [solved.task for solved in drawer.draw(families, count)]


def demonstrations(count: int, seed: int) -> list[Demonstration]:
    """Return `count` solved tasks, asked in the first half of the train wordings; training meets the rest alone."""
    return _Drawer("train", seed, Random(f"shop demonstrations {seed}"), half=True).draw(FAMILIES, count)


def write_workspace(root: Path, seed: int) -> None:
    """Write each split's database to a folder of its own, `root/train/shop.db` …, and one for one's own questions."""
    for split in sorted(set(_WORLDS.values())):
        write_world(make_world(split, seed), root / split / DATABASE)
    write_world(make_world("test", seed), root / DATABASE)


class _Drawer:
    """Draws questions of one shop, no prompt twice."""

    def __init__(self, split: str, seed: int, rng: Random, *, half: bool = False) -> None:
        self._split, self._rng, self._half = split, rng, half
        self._world = make_world(_WORLDS[split], seed)
        self._seen: set[str] = set()

    def draw(self, families: tuple[Family, ...], count: int) -> list[Demonstration]:
        """Return `count` solved tasks, level by level and family by family in turn."""
        levels = [[family for family in families if family.level == n] for n in sorted({f.level for f in families})]
        solved: list[Demonstration] = []
        for index in range(count):
            among = levels[index % len(levels)]
            first = index // len(levels) % len(among)
            name = f"{'demo' if self._half else self._split}-{index:04d}"
            solved.append(self._first_new(name, [*among[first:], *among[:first]]))
        return solved

    def _first_new(self, name: str, families: list[Family]) -> Demonstration:
        for family in families:
            if found := first_unseen(partial(self._solve, name, family), self._seen):
                return found
        raise AssertionError(f"level {families[0].level} of {self._split} has no new question for {name}")

    def _solve(self, name: str, family: Family) -> Demonstration:
        question = family.draw(self._world, self._rng)
        wordings = _wordings()[family.name][_WORDING[self._split]]
        wording = self._rng.choice(wordings[: (len(wordings) + 1) // 2] if self._half else wordings)
        task = Task(
            id=name,
            prompt=wording.format(**question.slots),
            checker=_checker(question),
            tools=("sql", "calculator"),
            meta={"level": family.level, "family": family.name, "workspace": _WORLDS[self._split]},
        )
        return Demonstration(task, (*map(_turn, question.calls), DemoTurn(_answer(family, question))))


def _turn(call: SolvingCall) -> DemoTurn:
    return DemoTurn(call.thought, ToolCall(name=call.tool, arguments={_ARGUMENT[call.tool]: call.argument}))


def _checker(question: Question) -> Checker:
    if question.answer is None:
        return RegexChecker(kind="regex", pattern=_NONE)
    if isinstance(question.answer, int):
        return NumberChecker(kind="number", answer=question.answer)
    return RegexChecker(kind="regex", pattern=rf"(?i)\b{re.escape(question.answer)}\W*$")


def _answer(family: Family, question: Question) -> str:
    if question.answer is None:
        return f"There is no such {family.name.removeprefix('no_')}."
    return f"The answer is {question.answer}."


@cache
def _wordings() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((Path(__file__).parent / "wording.toml").read_text(encoding="utf-8"))
