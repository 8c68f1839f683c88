"""The demo's report for people: the same blocks on the terminal and as Markdown.

What a model, task or tool wrote is shown in code blocks only, with everything that could act on a terminal escaped.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from koboshi_runtime.files import replace_file
from koboshi_runtime.home import Home
from koboshi_runtime.statistics import Interval
from koboshi_runtime.text import plain

from ..blocks import Block, markdown_of, print_blocks
from .plan import TITLES, StageName
from .report import Learning, Report, Score

_SETS = {"test": "new wording", "test_shapes": "new question shapes"}
_WIDTH = 140


def write_report(report: Report, home: Home) -> Path:
    """Write `demo.json` and `demo.md` to the home's reports, and return the path of the latter."""
    path = home.reports / "demo.md"
    replace_file(home.reports / "demo.json", (report.model_dump_json(indent=1) + "\n").encode())
    replace_file(path, markdown(report).encode())
    return path


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return markdown_of("Koboshi demo", blocks(report))


def print_report(report: Report, console: Console) -> None:
    """Print the report."""
    print_blocks(blocks(report), console)


def blocks(report: Report) -> tuple[Block, ...]:
    """Return the report's parts in order, all texts safe to print."""
    return (
        _success(report),
        _differences(report),
        _details(report.scores),
        *(_learning(learning) for learning in report.learnings),
        _conditions(report),
        *_runs(report),
        _seconds(report),
        Block(
            "Where everything lies", code=tuple(f"{name}: {plain(path)}" for name, path in report.next.places.items())
        ),
        Block("What to type next", code=tuple(plain(command) for command in report.next.commands)),
    )


def _success(report: Report) -> Block:
    rows = tuple(
        (
            score.model,
            _SETS[score.test_set],
            _percent(score.success_rate),
            _range(score.ci95),
            str(score.tasks),
            _percent(score.invalid_call_rate),
        )
        for score in report.scores
    )
    last = report.learnings[-1]
    went = "is live" if last.promoted else "was refused and is not live"
    return Block(
        f"Success on unseen tasks of {report.pack}",
        text=(
            f"zero-shot and few-shot are the untrained model with two prompts; {report.untrained_as}, the better one, "
            "stands for it below.",
            f"seeded learnt solved examples only; after learnt its own successes and failures as well, and {went}.",
            f"live now: {plain(report.next.live)}",
        ),
        columns=("model", "test set", "success", "95 % interval", "tasks", "invalid calls"),
        rows=rows,
    )


def _differences(report: Report) -> Block:
    rows = []
    for found in report.differences:
        seen = found.comparison
        ends = f"{_points(seen.ci95.low)} to {_points(seen.ci95.high)}"
        names = f"{found.first} → {found.second}"
        score = f"{seen.wins} won, {seen.losses} lost"
        rows.append((names, _SETS[found.test_set], _points(seen.difference), ends, score))
    return Block(
        "Differences in points, task by task",
        columns=("models", "test set", "difference", "95 % interval", "tasks"),
        rows=tuple(rows),
    )


def _details(scores: Sequence[Score]) -> Block:
    rows = []
    for score in scores:
        levels = ", ".join(f"{plain(level)}: {_percent(rate)}" for level, rate in score.by_level.items())
        tools = ", ".join(f"{plain(tool)}: {_percent(rate)}" for tool, rate in score.by_tool.items())
        rows.append((score.model, _SETS[score.test_set], levels or "-", tools or "no calls"))
    return Block(
        "Success by level, and by tool that was called",
        columns=("model", "test set", "by level", "by tool"),
        rows=tuple(rows),
    )


def _learning(learning: Learning) -> Block:
    fit = learning.fit
    mix = ", ".join(f"{count} {label}" for label, count in fit.label_mix.items())
    losses = ", ".join(
        f"{label} {before:.3f} → {fit.held_out_after.get(label, float('nan')):.3f}"
        for label, before in fit.held_out_before.items()
    )
    text = (
        f"rows: {mix} ({learning.method}); {fit.optimizer_steps} optimizer steps, {fit.tokens} tokens, "
        f"{fit.seconds:.0f} s",
        f"held-out loss, before → after: {losses or 'nothing was held out'}",
        f"parity: {'the file is the trained model' if learning.parity_passed else 'refused'}"
        + "".join(f"; {plain(reason)}" for reason in learning.parity_reasons),
    )
    rows = tuple(
        (file.kind, f"{seen.kld:.2g}", _percent(seen.top1), _percent(seen.clear_top1), str(seen.positions))
        for file in learning.parity_files
        if (seen := file.agreement)
    )
    return Block(
        f"What {learning.model} learnt, and the gate: {'promoted' if learning.promoted else 'refused'}",
        text=text,
        columns=("file", "KL (nats)", "same first token", "same where clear", "positions"),
        rows=rows,
        code=tuple(plain(line) for line in learning.gate),
    )


def _conditions(report: Report) -> Block:
    rows = tuple(
        (
            found.model,
            _percent(found.success_rate),
            _percent(found.failure_rate),
            _points(found.comparison.difference),
            f"{_points(found.comparison.ci95.low)} to {_points(found.comparison.ci95.high)}",
            str(found.tasks),
        )
        for found in report.conditions
    )
    counts = ", ".join(f"{count} {label}" for label, count in report.rollouts.items())
    return Block(
        "What failures taught: the same tasks, asked for a right and for a wrong answer",
        text=(f"Its own runs that the last training could learn from: {counts}.",),
        columns=("model", "asked right", "asked wrong", "difference", "95 % interval", "tasks"),
        rows=rows,
    )


def _runs(report: Report) -> Iterator[Block]:
    for number, task in enumerate(report.runs, start=1):
        lines = [f"asked: {plain(task.prompt, width=_WIDTH)}"]
        for model, run in task.runs.items():
            lines.append(f"{model}: {run.outcome} (koboshi traces show {run.run_id})")
            lines += [f"    {plain(call, width=_WIDTH)}" for call in run.calls]
            lines.append(f"    {plain(run.answer, width=_WIDTH)}")
        yield Block(f"Side by side {number} of {len(report.runs)}", code=tuple(lines))


def _seconds(report: Report) -> Block:
    rows = [(TITLES[StageName(stage)], f"{seconds:.0f} s") for stage, seconds in report.seconds.items()]
    rows.append(("all", f"{sum(report.seconds.values()) / 60:.1f} min"))
    return Block("What took how long", columns=("stage", "time"), rows=tuple(rows))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f}"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
