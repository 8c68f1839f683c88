"""Plots as SVG text: two bars for each name, and a curve. Names are escaped; numbers are the only other thing drawn."""

from collections.abc import Sequence
from html import escape

from koboshi_runtime.text import plain

_WIDTH, _NAME_WIDTH, _VALUE_WIDTH = 720, 180, 60
_BAR, _GAP = 12, 14
_CURVE_HEIGHT, _MARGIN = 220, 40
_NAME_CHARACTERS = 24
_DRAWN_POINTS = 200  # more are not told apart at this width


def bars(rows: Sequence[tuple[str, float, float]]) -> str:
    """Return an SVG with the shares before and after of each name."""
    room = _WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    parts, top = [], _GAP
    for name, before, after in rows:
        middle = top + _BAR + 4
        parts.append(f'<text x="0" y="{middle}">{escape(plain(name, width=_NAME_CHARACTERS))}</text>')
        for place, (kind, share) in enumerate((("before", before), ("after", after))):
            y, length = top + place * (_BAR + 1), max(1.0, room * share)
            parts.append(
                f'<rect class="{kind}" x="{_NAME_WIDTH}" y="{y}" width="{length:.1f}" height="{_BAR}"/>'
                f'<text x="{_NAME_WIDTH + length + 6:.1f}" y="{y + _BAR - 2}">{100 * share:.0f} %</text>'
            )
        top += 2 * _BAR + _GAP
    return _svg(top, parts)


def curve(values: Sequence[float]) -> str:
    """Return an SVG of values over their number, the axis from 0 or the least value to the greatest."""
    low, high = min(0.0, *values), max(values)
    every = max(1, len(values) // _DRAWN_POINTS)
    drawn = list(enumerate(values, start=1))[::every]
    across = (_WIDTH - 2 * _MARGIN) / max(1, len(values) - 1)
    down = (_CURVE_HEIGHT - 2 * _MARGIN) / ((high - low) or 1.0)
    points = " ".join(
        f"{_MARGIN + (n - 1) * across:.1f},{_CURVE_HEIGHT - _MARGIN - (v - low) * down:.1f}" for n, v in drawn
    )
    bottom, right = _CURVE_HEIGHT - _MARGIN, _WIDTH - _MARGIN
    parts = [
        f'<path class="axis" d="M{_MARGIN} {_MARGIN} V{bottom} H{right}" fill="none"/>',
        f'<text x="0" y="{_MARGIN + 4}">{high:.2f}</text><text x="0" y="{bottom + 4}">{low:.2f}</text>',
        f'<text x="{_MARGIN}" y="{bottom + 18}">1</text>',
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{len(values)}</text>',
        f'<polyline class="line" points="{points}"/>',
    ]
    return _svg(_CURVE_HEIGHT, parts)


def _svg(height: float, parts: Sequence[str]) -> str:
    size = f'width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>{"".join(parts)}</svg>'
