"""Read word problems whose solutions carry `<<expression=result>>` annotations.

GSM8K's do (Cobbe et al., arXiv 2110.14168). Each annotation is one call of the calculator, and the words before it on
its line are the thought that leads to it, so a solution turns into a demonstration mechanically. Only problems are used
whose every expression our calculator evaluates to the annotated result and whose last result is the gold answer:
anything else would teach to contradict the tool. Nothing of such a file is part of Koboshi; a person names it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from koboshi_runtime.checkers import NumberChecker
from koboshi_runtime.packs import Demonstration, DemoTurn
from koboshi_runtime.tasks import Task
from koboshi_tools import ToolCall, ToolError, UsageError
from koboshi_tools.builtin.calculator import evaluate

_ANNOTATION = re.compile(r"<<([^<>]*?)=([^<>=]*)>>")
_GOLD = "####"
_NOT_ASKED = re.compile(r"[^0-9+\-*/().,%^ ]")
_LONGEST_EXPRESSION = 80


def read_problems(path: Path, steps: Sequence[int]) -> list[Task]:
    """Return the problems of a file that have `steps` annotations, as tasks. Raises UsageError for a line that is none.

    A problem whose solution is not usable as a demonstration is a task all the same.
    """
    return [
        _task(number, question, gold)
        for number, question, solution, gold in _lines(path)
        if len(_ANNOTATION.findall(solution)) in steps
    ]


def read_demonstrations(path: Path, steps: Sequence[int]) -> list[Demonstration]:
    """Return the problems of a file that have `steps` annotations and end on the gold answer, solved step by step."""
    found = []
    for number, question, solution, gold in _lines(path):
        turns = _turns(solution, gold)
        if turns and len(turns) - 1 in steps:
            found.append(Demonstration(_task(number, question, gold), turns))
    return found


def _lines(path: Path) -> Iterator[tuple[int, str, str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"the problem file {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            solution, mark, gold = value["answer"].partition(_GOLD)
            question = value["question"].strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path}, line {number}: no problem with question and answer: {error!r}") from error
        if not mark:
            raise UsageError(f"{path}, line {number}: the answer has no {_GOLD} before its number")
        yield number, question, solution, gold.strip().replace(",", "")


def _task(number: int, question: str, gold: str) -> Task:
    checker = NumberChecker(kind="number", answer=gold)
    return Task(id=f"gsm8k-{number:05}", prompt=question, checker=checker, tools=("calculator",))


def _turns(solution: str, gold: str) -> tuple[DemoTurn, ...]:
    """Return the turns that solve the problem, or none where tool and annotation disagree."""
    turns = []
    result: Fraction | None = None
    for line in solution.splitlines():
        start = 0
        for match in _ANNOTATION.finditer(line):
            expression = match[1].strip()
            result = _agreed(expression, match[2])
            if result is None:
                return ()
            thought = _thought(line[start : match.start()])
            turns.append(DemoTurn(thought, ToolCall(name="calculator", arguments={"expression": expression})))
            start = match.end()
    if result is None or result != _number(gold):
        return ()
    return (*turns, DemoTurn(f"The answer is {gold}."))


def _agreed(expression: str, annotated: str) -> Fraction | None:
    if _NOT_ASKED.search(expression) or len(expression) > _LONGEST_EXPRESSION:
        return None
    try:
        value = evaluate(expression)
    except ToolError:
        return None
    return value if value == _number(annotated) else None


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.strip().replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _thought(text: str) -> str:
    """Return the words that lead to a calculation, without what the last one left behind and the sign before it."""
    words = re.sub(r"^[\d.,]*", "", text).strip(" .,;")
    return words.rstrip("=$ ").strip()
