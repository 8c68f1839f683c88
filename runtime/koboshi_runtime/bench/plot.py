"""Draw a report: bars for a terminal, and a PNG where matplotlib is installed."""

from pathlib import Path

from koboshi_tools import KoboshiError

from .figures import BenchReport, Figure

_WIDTH = 40


def bars(report: BenchReport) -> str:
    """Return two bars for each figure, ours above the rival's, scaled to the longer one."""
    return "\n".join(line for figure in report.figures for line in _pair(figure))


def _pair(figure: Figure) -> list[str]:
    longest = max(figure.ours, figure.theirs, 1e-9)
    lines = [f"{figure.name} ({figure.unit})"]
    for name, value in (("koboshi", figure.ours), (figure.rival, figure.theirs)):
        lines.append(f"  {name:8} {'█' * max(1, round(_WIDTH * value / longest)):{_WIDTH}} {value:.2f}")
    return lines


def write_png(report: BenchReport, path: Path) -> None:
    """Draw the figures side by side into `path`. Raises KoboshiError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise KoboshiError(
            "a PNG needs matplotlib, which is not installed", hint="pip install 'koboshi[bench]', or leave out --png"
        ) from error
    canvas = Canvas(figsize=(4 * len(report.figures), 3.6), layout="constrained")
    axes = canvas.subplots(1, len(report.figures), squeeze=False)[0]
    for axis, figure in zip(axes, report.figures, strict=True):
        found = axis.bar(["koboshi", figure.rival], [figure.ours, figure.theirs], color=["#b3282d", "#8a8a8a"])
        axis.bar_label(found, fmt="%.2f")
        axis.set_title(f"{figure.ratio:.2f} x {figure.rival}")
        axis.set_ylabel(figure.unit)
    machine = report.machine
    canvas.suptitle(
        f"{report.model}, {report.pack}, {report.jobs} at once · {machine.processors} x {machine.processor}"
    )
    canvas.savefig(path, dpi=120, format="png")
