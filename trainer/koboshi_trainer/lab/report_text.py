"""A lab report as Markdown: the page of an experiment, and its entry in the lab log.

The entry stands between two marks in the log, so that writing it again replaces it where it stands.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from koboshi_runtime.files import replace_file

from ..auroc import Auroc
from .report import LabReport, Row, Table
from .results import FitResult, PoolResult, RunsResult
from .stats import Estimate


def page(report: LabReport, plots: Sequence[str] = ()) -> str:
    """Return the whole page, with the names of the plots that lie beside it."""
    parts = [f"# {report.name}", report.question, *_notes(report), *map(_table, report.tables)]
    parts += [*map(_pool, report.pools), _fits(report.fits), _guards(report.fits), _aurocs(report)]
    parts += [f"![{name}]({name})" for name in plots]
    return "\n\n".join(part for part in parts if part) + "\n"


def log_entry(report: LabReport, *, date: str, command: str) -> str:
    """Return the entry of the lab log: question, command, tables, what lacks."""
    parts = [f"## {date} · {report.question}", f"Made by `{command}`; seeds {_several(report.seeds)}."]
    parts += [*_notes(report), *map(_table, report.tables), *map(_pool, report.pools)]
    parts += [_guards(report.fits), _aurocs(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_log(path: Path, name: str, entry: str) -> None:
    """Put an entry into a log: in the place of the same experiment's earlier one, or at the end."""
    begin, end = f"<!-- lab {name} -->\n", f"<!-- /lab {name} -->\n"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Lab log\n"
    block = begin + entry + end
    if begin in text and end in text:
        head, tail = text[: text.index(begin)], text[text.index(end) + len(end) :]
        text = head + block + tail
    else:
        text = text.rstrip("\n") + "\n\n" + block
    replace_file(path, text.encode())
    path.chmod(0o644)


def _notes(report: LabReport) -> Iterator[str]:
    if report.missing:
        yield f"**Not there yet:** {'; '.join(report.missing)}."
    if report.older:
        yield f"**Made under another version of the experiment file:** {'; '.join(report.older)}."


def _table(table: Table) -> str:
    title = f"### {table.evaluation}{' (primary)' if table.primary else ''}"
    columns = ("arm", "tasks × seeds", "success", "over the reference", "invalid calls", "tokens a task")
    lines = [title, "", _line(columns), _line(["---"] * len(columns)), *(_line(_cells(row)) for row in table.rows)]
    if table.comparisons:
        lines += ["", _line(("pair", "difference")), _line(("---", "---"))]
        lines += [_line((f"{pair.left} − {pair.right}", _points(pair.difference))) for pair in table.comparisons]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    name = " · ".join(part for part in (row.arm, row.decoding if row.decoding != "greedy" else "", row.chosen) if part)
    invalid = "–" if row.invalid_call_rate is None else f"{100 * row.invalid_call_rate:.1f} %"
    over = "–" if row.over_reference is None else _points(row.over_reference)
    return (name, f"{row.tasks} × {row.seeds}", _percent(row.success), over, invalid, f"{row.tokens_a_task:.0f}")


def _pool(pool: PoolResult) -> str:
    of_seed = "" if pool.seed is None else f" of seed {pool.seed}"
    labels = ", ".join(f"{count} {label}" for label, count in sorted(pool.labels.items()))
    classes = ", ".join(f"{count} {name}" for name, count in sorted(pool.failure_classes.items()))
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(pool.excluded.items())) or "none"
    solved = f"{100 * pool.successes / pool.runs:.1f} % successes, {pool.solved_tasks} tasks solved at least once"
    return (
        f"Pool{of_seed}: {pool.runs} runs of {pool.tasks} train tasks, {solved}; "
        f"kept {labels} ({classes}), {pool.held_out} of them held out; "
        f"left out: {left_out}. Seeded on {pool.demonstrations} demonstrations."
    )


def _fits(fits: Sequence[FitResult]) -> str:
    if not fits:
        return ""
    columns = ("fit", "rows", "steps", "tokens", "seconds", "loss", "gradient", "update", "kept in Q8_0")
    lines = [_line(columns), _line(["---"] * len(columns))]
    for one in fits:
        kept = "–" if one.kept_total is None else f"{one.kept_total:.3f}"
        lines.append(
            _line(
                (
                    f"{one.arm}, seed {one.seed}",
                    str(one.rows),
                    str(one.optimizer_steps),
                    f"{one.tokens:,}",
                    f"{one.seconds:.0f}",
                    f"{one.losses[0]:.3f} → {one.losses[-1]:.3f}",
                    f"{one.gradient_norm_first:.2f} → {one.gradient_norm_last:.2f}",
                    f"{one.update_norm:.2f}",
                    kept,
                )
            )
        )
    return "### Fits\n\n" + "\n".join(lines)


def _guards(fits: Sequence[FitResult]) -> str:
    """Return the held-out losses: the wrong condition's share of the right one's says whether it was learnt."""
    known = [(one, one.guards) for one in fits if one.guards is not None]
    if not known:
        return ""
    cells = [f"{kind} under {under}" for kind in ("success", "failure") for under in ("success", "failure")]
    columns = ("held-out loss", *cells, "KL", "same first choice")
    lines = [_line(columns), _line(["---"] * len(columns))]
    for one, guards in known:
        losses = [f"{guards.losses[cell]:.3f}" if cell in guards.losses else "–" for cell in cells]
        lines.append(
            _line((f"{one.arm}, seed {one.seed}", *losses, f"{guards.kl:.3f}", f"{100 * guards.agreement:.1f} %"))
        )
    return "### Did it learn the condition?\n\n" + "\n".join(lines)


def _aurocs(report: LabReport) -> str:
    found = [(f"{one.arm}, seed {one.seed}, held-out pool", one.guards.auroc) for one in report.fits if one.guards]
    found += [(_where(run), run.auroc) for run in report.runs if run.auroc]
    if not any(scores["contrast"].pairs for _, scores in found):
        return ""
    columns = ("AUROC within tasks", "pairs", "contrast", "log-probability", "shortness")
    lines = [_line(columns), _line(["---"] * len(columns))]
    for name, scores in found:
        values = (_area(scores[score]) for score in ("contrast", "log-probability", "shortness"))
        lines.append(_line((name, str(scores["contrast"].pairs), *values)))
    return "### Does the contrast know?\n\n" + "\n".join(lines)


def _where(run: RunsResult) -> str:
    return f"{run.arm}, seed {run.seed}, {run.evaluation} ({run.decoding})"


def _area(found: Auroc) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "–"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _points(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _several(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
