"""The plots of a lab report, as PNG files. The only module that draws; it needs the extra `lab`."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from koboshi_tools import KoboshiError

from .report import LabReport, Table
from .results import FitResult

_DPI = 120
_ROW_INCHES = 0.32
_SMOOTHED = 9  # optimizer steps: a batch of 16 rows is too noisy to be read step by step


def draw(report: LabReport, folder: Path) -> list[str]:
    """Draw success rates and training losses into `folder`, and return the names of the files."""
    try:
        import matplotlib
    except ImportError as error:
        raise KoboshiError("matplotlib is not installed", hint="pip install 'koboshi[lab]'") from error
    matplotlib.use("Agg")
    names = []
    for table in report.tables:
        names.append(f"{table.evaluation}.png")
        _rates(table, folder / names[-1])
    if report.fits:
        names.append("losses.png")
        _losses(report.fits, folder / names[-1])
    return names


def _rates(table: Table, path: Path) -> None:
    from matplotlib import pyplot

    titles = [" · ".join(part for part in (row.arm, row.decoding, row.chosen) if part) for row in table.rows]
    values = np.array([[row.success.value, row.success.low, row.success.high] for row in table.rows]) * 100
    places = np.arange(len(titles))[::-1]
    figure, axes = pyplot.subplots(figsize=(7, 1 + _ROW_INCHES * len(titles)), layout="constrained")
    errors = [np.maximum(0, values[:, 0] - values[:, 1]), np.maximum(0, values[:, 2] - values[:, 0])]
    axes.errorbar(values[:, 0], places, xerr=errors, fmt="o", capsize=3)
    axes.set_yticks(places, titles)
    axes.set_xlabel("success, % of tasks, with 95 % intervals over tasks and seeds")
    axes.set_title(table.evaluation)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)


def _losses(fits: Sequence[FitResult], path: Path) -> None:
    from matplotlib import pyplot

    by_arm: dict[str, list[FitResult]] = defaultdict(list)
    for one in fits:
        by_arm[one.arm].append(one)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for arm, several in by_arm.items():
        shortest = min(len(one.losses) for one in several)
        mean = np.mean([one.losses[:shortest] for one in several], axis=0)
        window = min(_SMOOTHED, shortest)
        smooth = np.convolve(mean, np.ones(window) / window, mode="valid")
        axes.plot(np.arange(window, shortest + 1), smooth, label=arm)
    axes.set_xlabel(f"optimizer step (mean of {_SMOOTHED} and of the seeds)")
    axes.set_ylabel("training loss a learnt id, nats")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
