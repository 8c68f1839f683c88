"""A few tasks side by side: what each model did with the same question, call by call."""

from collections.abc import Mapping, Sequence

from koboshi_runtime.records import OutcomeLabel, Trajectory
from koboshi_tools import Frozen

_SHOWN = 3


class ShownRun(Frozen):
    """One run as the report shows it: its id, its calls with their results, its answer; texts as they were written."""

    run_id: str
    outcome: str
    calls: tuple[str, ...]
    answer: str


class SideBySide(Frozen):
    """One task and what each model did with it."""

    prompt: str
    runs: dict[str, ShownRun]


def side_by_side(models: Mapping[str, Sequence[Trajectory]]) -> tuple[SideBySide, ...]:
    """Return up to three tasks that every model ran, in the same order: those first on which the models differ most.

    The choice follows the outcomes and the order of the tasks: one that the last model alone solved, one that it lost
    where there is such a task, and the first of the rest.
    """
    first, *_ = models.values()
    rows = [{name: runs[index] for name, runs in models.items()} for index in range(len(first))]
    last = list(models)[-1]
    won = [row for row in rows if _solved(row[last]) and not all(map(_solved, row.values()))]
    lost = [row for row in rows if not _solved(row[last]) and any(map(_solved, row.values()))]
    rest = [row for row in rows if row not in won and row not in lost]
    chosen = [*won[:1], *lost[:1], *rest, *won[1:], *lost[1:]][:_SHOWN]
    return tuple(
        SideBySide(prompt=row[last].header.prompt, runs={name: _shown(run) for name, run in row.items()})
        for row in chosen
    )


def _solved(run: Trajectory) -> bool:
    return run.outcome is OutcomeLabel.SUCCESS


def _shown(run: Trajectory) -> ShownRun:
    calls = []
    for call in run.calls:
        arguments = ", ".join(str(value) for value in call.intent.call.arguments.values())
        output = call.result.output if call.result else "no result"
        calls.append(f"{call.intent.call.name}({arguments}) = {output}")
    answer = (run.end.answer or f"({run.end.reason.value})") if run.end else "(no end)"
    return ShownRun(run_id=run.run_id, outcome=run.outcome.value, calls=tuple(calls), answer=answer)
