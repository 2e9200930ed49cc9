"""Results as pictures: a line of block characters for a terminal, an SVG file for a lesson or a paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from omtools.cluster.simulator.simulate import Result, Second
from omtools.i18n import _

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 760, 180, 60, 50, 60
Figure = Callable[[Second], float]
_COLOURS = {True: "#0b6e4f", False: "#b23a48"}


def sampled(values: Sequence[float], width: int) -> list[float]:
    """So many means over equal stretches of the values; all of them where there are fewer."""
    if len(values) <= width:
        return list(values)
    edges = [at * len(values) // width for at in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def line(values: Sequence[float], width: int = 60, most: float = 1.0) -> str:
    """A sparkline: one block character per stretch of time, the full block is `most`."""
    top = len(_BLOCKS) - 1
    heights = [round(top * value / most) if most else 0 for value in sampled(values, width)]
    return "".join(_BLOCKS[max(0, min(top, height))] for height in heights)


def svg(title: str, results: Sequence[Result]) -> str:
    """Three charts over time: computing power in use, jobs that run, moves; one line per result."""
    charts: list[tuple[str, float, list[list[tuple[float, float]]]]] = [
        (_("computing power in use"), 1.0, [_points(one, lambda s: s.busy) for one in results]),
        (_("jobs that run"), 0.0, [_points(one, lambda s: float(s.running)) for one in results]),
        (_("moves so far"), 0.0, [_points(one, lambda s: float(s.moves)) for one in results]),
    ]
    until = max((one.seconds[-1].at for one in results if one.seconds), default=1.0) or 1.0
    height = _TOP + len(charts) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 2 * _LEFT} {height}">',
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="24" style="font-size: 16px">{escape(title)}</text>',
        _legend(results),
    ]
    for at, (name, most, lines) in enumerate(charts):
        top = _TOP + at * (_HEIGHT + _GAP)
        peak = most or max((y for points in lines for _x, y in points), default=1.0) or 1.0
        parts += _axes(name, top, peak, until)
        parts += [
            _polyline(points, top, peak, until, _COLOURS[one.balanced])
            for points, one in zip(lines, results, strict=True)
        ]
    return "\n".join([*parts, "</svg>", ""])


def _points(result: Result, figure: Figure) -> list[tuple[float, float]]:
    step = max(1, len(result.seconds) // _WIDTH)
    return [(second.at, figure(second)) for second in result.seconds[::step]]


def _legend(results: Sequence[Result]) -> str:
    words = {True: _("with balancing"), False: _("without")}
    return "".join(
        f'<text x="{_LEFT + _WIDTH - 220 + 120 * at}" y="24" fill="{_COLOURS[one.balanced]}">'
        f"{escape(words[one.balanced])}</text>"
        for at, one in enumerate(results)
    )


def _axes(name: str, top: float, peak: float, until: float) -> list[str]:
    bottom = top + _HEIGHT
    return [
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#999"/>',
        f'<text x="{_LEFT + 6}" y="{top + 16}" fill="#555">{escape(name)}</text>',
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{peak:g}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{_LEFT}" y="{bottom + 16}">0 s</text>',
        f'<text x="{_LEFT + _WIDTH}" y="{bottom + 16}" text-anchor="end">{until:.0f} s</text>',
    ]


def _polyline(
    points: Sequence[tuple[float, float]], top: float, peak: float, until: float, colour: str
) -> str:
    drawn = " ".join(
        f"{_LEFT + _WIDTH * x / until:.1f},{top + _HEIGHT * (1 - min(y / peak, 1)):.1f}" for x, y in points
    )
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
