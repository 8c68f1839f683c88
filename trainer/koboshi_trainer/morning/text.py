"""The morning report for people: its headline, and under it the same blocks on the terminal and as Markdown."""

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.text import Text

from koboshi_runtime.text import plain

from ..blocks import Block, markdown_of, print_blocks
from ..gate.reasons import explain
from ..gate.values import GateVerdict
from .report import Cost, Kind, Learnt, Morning, counted

_MB = 1_000_000
_SHOWN_BYTES = 50_000  # what is less would be shown as nothing


def headline(morning: Morning) -> str:
    """Return the headline, safe to print."""
    return plain(morning.headline)


def markdown(morning: Morning) -> str:
    """Return the report as Markdown."""
    return markdown_of(headline(morning), blocks(morning))


def print_morning(morning: Morning, console: Console) -> None:
    """Print the report."""
    console.print(Text(headline(morning), style="bold"), soft_wrap=True)
    print_blocks(blocks(morning), console)


def blocks(morning: Morning) -> tuple[Block, ...]:
    """Return the parts below the headline in order, all texts safe to print."""
    return tuple(_blocks(morning))


def _blocks(morning: Morning) -> Iterator[Block]:
    if morning.reasons:
        yield _why(morning)
    if morning.verdict is not None:
        yield _success(morning.verdict)
    if morning.learnt is not None:
        yield _learnt(morning.learnt, morning.tried)
    if morning.verdict is not None:
        yield Block("What the gate said", code=tuple(plain(line) for line in explain(morning.verdict)))
    if morning.watch is not None:
        yield Block("The watch over the last model that went live", text=(plain(morning.watch),))
    if morning.kind is not Kind.NOTHING:
        yield Block("For the next night", text=(morning.labels.text,))
    yield _cost(morning.cost)
    yield _disk(morning.disk)
    yield _about(morning)


def _why(morning: Morning) -> Block:
    titles = {Kind.REFUSED: "Why it was refused", Kind.NOTHING: "Why there was no night", Kind.FAILED: "What failed"}
    hint = (morning.hint,) if morning.hint else ()
    return Block(titles.get(morning.kind, "Why"), text=tuple(plain(line) for line in (*morning.reasons, *hint)))


def _success(verdict: GateVerdict) -> Block:
    rows = [("all tasks", verdict.current_rate, verdict.candidate_rate, verdict.tasks)]
    rows += [(plain(row.tool), row.current_rate, row.candidate_rate, row.tasks) for row in verdict.tools]
    return Block(
        "Success on unseen tasks, by tool",
        columns=("tool", "before", "after", "tasks"),
        rows=tuple((name, _percent(before), _percent(after), str(tasks)) for name, before, after, tasks in rows),
    )


def _learnt(learnt: Learnt, tried: Mapping[str, int]) -> Block:
    losses = ", ".join(
        f"{plain(label)} {before:.3f} → {learnt.held_out_after[label]:.3f}"
        for label, before in learnt.held_out_before.items()
        if label in learnt.held_out_after
    )
    rows = (
        ("runs", counted(learnt.rows)),
        ("of them demonstrations", str(learnt.demonstrations)),
        ("kinds of failure", counted(learnt.failure_classes) or "-"),
        ("tools called", plain(counted(learnt.tools)) or "-"),
        ("left out", plain(counted(learnt.left_out)) or "-"),
        ("tried this night", counted(tried) or "-"),
        ("method", learnt.method),
        ("optimizer steps", f"{learnt.optimizer_steps} over {learnt.tokens} tokens"),
        ("held-out loss, before → after", losses or "nothing was held out"),
    )
    return Block("What was learnt", columns=("", ""), rows=rows)


def _cost(cost: Cost) -> Block:
    rows = [(stage, f"{seconds:.0f} s") for stage, seconds in cost.seconds.items()]
    rows.append(("all", f"{cost.total_s / 60:.1f} min"))
    used = f"{cost.processor_s:.0f} s of processor time, {cost.peak_memory_mb:.0f} MB of memory at most"
    return Block("What it cost", text=(used,), columns=("stage", "time"), rows=tuple(rows))


def _disk(disk: Mapping[str, int]) -> Block:
    rows = [(plain(part), f"{size / _MB:.1f} MB") for part, size in disk.items() if size >= _SHOWN_BYTES]
    rows.append(("all", f"{sum(disk.values()) / _MB:.1f} MB"))
    return Block("Disk", columns=("part of the home", "size"), rows=tuple(rows))


def _about(morning: Morning) -> Block:
    times = f"{_minute(morning.began_at)} to {_minute(morning.ended_at)}"
    return Block(
        "The night",
        text=(
            f"{morning.night_id} of {plain(morning.project)}, {times}",
            f"live now: {plain(morning.live)}",
            *(plain(note) for note in morning.notes),
        ),
    )


def _minute(time: str) -> str:
    """Return an ISO time to the minute; it is in UTC."""
    return f"{time[:10]} {time[11:16]} UTC"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
