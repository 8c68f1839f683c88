"""From a finished run to its outcome.

A checker is a pure function of what the run left: its answer, its calls, its workspace. A run that ended otherwise than
by an answer or by a call that is never executed has failed, whatever its checker says; a run that ran out of wall-clock
time is the caller's to label `unknown`, and is not brought here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from koboshi_tools import ToolCall, UsageError

from ..records import Outcome, OutcomeLabel, OutcomeSource
from .answers import wrong_choice, wrong_json, wrong_number, wrong_pattern, wrong_text
from .calls import wrong_calls
from .specs import (
    Checker,
    CommandChecker,
    ExactChecker,
    JsonChecker,
    NumberChecker,
    OneOfChecker,
    RegexChecker,
    SqlChecker,
    ToolCallChecker,
)
from .workspace import command_file, run_command, wrong_rows


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run left: its final answer, the calls it made, its workspace, and whether it ended by itself."""

    answer: str | None
    calls: tuple[ToolCall, ...] = ()
    workspace: Path | None = None
    ended_ok: bool = True


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """Whether programs may judge, and the folder that they come from."""

    allow_commands: bool = False
    checks: Path | None = None


def refuse_commands(checkers: Iterable[object], settings: CheckSettings) -> None:
    """Raise UsageError if any checker is a program that may not run or is not the pinned one; call before any run."""
    for checker in checkers:
        if not isinstance(checker, CommandChecker):
            continue
        if not settings.allow_commands:
            raise UsageError(
                f"a checker would run the program {checker.file!r}",
                hint="Read it, then pass --allow-command-checkers.",
            )
        command_file(checker, settings.checks)


def judge(checker: Checker, finished: Finished, settings: CheckSettings | None = None) -> Outcome:
    """Return the checker's outcome. Raises UsageError for a command checker that `settings` do not allow."""
    settings = settings or CheckSettings()
    refuse_commands([checker], settings)
    if not finished.ended_ok:
        return _outcome(checker, OutcomeLabel.FAILURE, "the run did not end by itself")
    if isinstance(checker, CommandChecker):
        return _outcome(checker, *_commanded(checker, finished, settings))
    wrong = _wrong(checker, finished)
    return _outcome(checker, OutcomeLabel.FAILURE if wrong else OutcomeLabel.SUCCESS, wrong or "")


def _outcome(checker: Checker, label: OutcomeLabel, rationale: str) -> Outcome:
    return Outcome(label=label, source=OutcomeSource.CHECKER, who=checker.kind, rationale=rationale)


def _commanded(checker: CommandChecker, finished: Finished, settings: CheckSettings) -> tuple[OutcomeLabel, str]:
    return run_command(
        checker,
        checks=settings.checks,
        workspace=finished.workspace,
        answer=finished.answer,
        calls=finished.calls,
    )


def _wrong(checker: Checker, finished: Finished) -> str | None:
    if isinstance(checker, ToolCallChecker):
        return wrong_calls(checker, finished.calls)
    if isinstance(checker, SqlChecker):
        return wrong_rows(checker, finished.workspace) if finished.workspace else "the run had no workspace"
    if finished.answer is None:
        return "no answer"
    return _wrong_answer(checker, finished.answer)


def _wrong_answer(checker: Checker, answer: str) -> str | None:
    match checker:
        case NumberChecker():
            return wrong_number(checker, answer)
        case ExactChecker():
            return wrong_text(checker, answer)
        case RegexChecker():
            return wrong_pattern(checker, answer)
        case OneOfChecker():
            return wrong_choice(checker, answer)
        case JsonChecker():
            return wrong_json(checker, answer)
        case ToolCallChecker() | SqlChecker() | CommandChecker():
            raise AssertionError(f"{checker.kind} does not judge the answer's text")
        case _:
            assert_never(checker)
