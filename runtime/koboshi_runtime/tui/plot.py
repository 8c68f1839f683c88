"""Curves in a terminal: columns of block characters, which every font draws alike, with the values of both axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LEFT = 8
"""Cells that the numbers at the left take."""

_WIDEST = 6
"""Cells of one column at most: three nights are three columns, not three walls."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """How a curve is drawn: its style and that of its axes, the unit of its numbers, and the value at its foot."""

    style: Style
    quiet: Style
    unit: str = ""
    foot: float | None = None


def curve(values: Sequence[float], drawn: Drawn, *, width: int, height: int) -> Text:
    """Return the values in order as columns, `width` cells by `height` lines with both axes.

    Of more values than there are cells, neighbours share a column by their mean. What is not finite leaves a gap.
    Without a foot the lowest value stands at the bottom.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Text("no values", drawn.quiet)
    cells, lines = max(4, width - _LEFT), max(2, height - 1)
    low, high = _range(finite if drawn.foot is None else [drawn.foot, *finite])
    columns = _shared(values, cells)
    broad = max(1, min(_WIDEST, cells // len(columns)))
    gap = 1 if broad > 2 else 0
    # The lowest value is drawn too: a column of nothing would be a gap.
    filled = [None if value is None else 1 + (value - low) / (high - low) * (8 * lines - 1) for value in columns]
    shown = Text(no_wrap=True)
    for number in range(lines):
        under = 8 * (lines - 1 - number)
        label = f"{high:.3g}{drawn.unit}" if number == 0 else f"{low:.3g}{drawn.unit}" if number == lines - 1 else ""
        row = "".join((_block(fill, under) * (broad - gap)).ljust(broad) for fill in filled)
        shown.append(f"{label:>{_LEFT - 2}} {'┤' if label else '│'}", drawn.quiet).append(f"{row}\n", drawn.style)
    last = str(len(values))
    return shown.append(f"{'':>{_LEFT - 1}}└1{last:─>{max(1, broad * len(columns) - 1)}}", drawn.quiet)


def bar(share: float, width: int) -> str:
    """Return a share from 0 to 1 as a bar of `width` cells."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "█" * filled + "░" * (width - filled)


def _block(fill: float | None, under: int) -> str:
    return " " if fill is None else _BLOCKS[min(8, max(0, round(fill - under)))]


def _range(finite: Sequence[float]) -> tuple[float, float]:
    low, high = min(finite), max(finite)
    if high > low:
        return low, high
    around = abs(high) / 10 or 1.0
    return low - around, high + around


def _shared(values: Sequence[float], cells: int) -> list[float | None]:
    count = min(cells, len(values))
    columns: list[float | None] = []
    for place in range(count):
        part = values[place * len(values) // count : (place + 1) * len(values) // count]
        finite = [value for value in part if math.isfinite(value)]
        columns.append(sum(finite) / len(finite) if finite else None)
    return columns
