"""A recording as a picture of lines and words, without any format: for SVG and PNG alike. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from omtools.i18n import _
from omtui.analyzer.series import HIGH, NOTHING, WHAT_NAMES, Series, What, in_words, top_of
from omtui.moments import clock_of, tick_of
from omtui.recording.reader import Checkpoint

WIDTH = 1000
COLUMNS = 480  # values beside each other
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 40
_PANEL, _GAP = 110, 34  # height of the plot of one node, and room for its title
_TICKS = 6

Colour = Literal["ink", "faint", "line", "high", "mark"]
COLOURS: dict[Colour, str] = {
    "ink": "#1a1a1a",
    "faint": "#c8c8c8",
    "line": "#1565c0",
    "high": "#c62828",
    "mark": "#6a1b9a",
}
BACKGROUND = "#ffffff"


class Stroke(NamedTuple):
    """A line through points; x to the right, y downwards."""

    points: list[tuple[float, float]]
    colour: Colour
    width: float = 1.0
    dashed: bool = False


class Words(NamedTuple):
    """Text whose base line begins, is in the middle or ends at a point."""

    x: float
    y: float
    text: str
    colour: Colour = "ink"
    size: int = 13
    anchor: Literal["start", "middle", "end"] = "start"


class Chart(NamedTuple):
    """A picture."""

    width: int
    height: int
    strokes: list[Stroke]
    words: list[Words]


def chart_of(
    series: Sequence[Series], what: What, window: tuple[int, int], marks: Sequence[Checkpoint]
) -> Chart:
    """A panel per node, the times below, and the checkpoints through all of them."""
    height = _TOP + len(series) * (_PANEL + _GAP) + _BOTTOM
    title = _("openMosix, {what}, from {since} to {until}").format(
        what=_(WHAT_NAMES[what]), since=clock_of(window[0]), until=clock_of(window[1])
    )
    chart = Chart(WIDTH, height, [], [Words(_LEFT, 24, title, size=16)])
    top = top_of(series, what)
    for index, one in enumerate(series):
        _panel(chart, one, what, _TOP + index * (_PANEL + _GAP) + _GAP, top)
    _times(chart, window)
    _marks(chart, window, marks)
    return chart


def _panel(chart: Chart, one: Series, what: What, y: float, top: float) -> None:
    right = WIDTH - _RIGHT
    chart.words.append(Words(_LEFT, y - 8, in_words(one, what)))
    for share in (0.0, 0.5, 1.0):
        height = y + _PANEL * (1 - share)
        chart.strokes.append(Stroke([(_LEFT, height), (right, height)], "faint"))
        chart.words.append(Words(_LEFT - 6, height + 4, f"{top * share:g}", size=11, anchor="end"))
    for points, high in _runs(one.values, HIGH[what]):
        placed = [
            (_x(column + 0.5, len(one.values)), y + _PANEL * (1 - min(1.0, value / top)))
            for column, value in points
        ]
        chart.strokes.append(Stroke(placed, "high" if high else "line", 1.5))


def _x(column: float, columns: int) -> float:
    return _LEFT + column * (WIDTH - _LEFT - _RIGHT) / columns


def _runs(values: Sequence[float], high: float) -> list[tuple[list[tuple[int, float]], bool]]:
    """Lines that are drawn in one go: broken where nothing was recorded, another colour where it is high."""
    runs: list[tuple[list[tuple[int, float]], bool]] = []
    before: tuple[int, float] | None = None
    for column, value in enumerate(values):
        if value == NOTHING:
            before = None
            continue
        here, much = (column, value), value > high
        if before is None:
            runs.append(([here], much))
        elif much == runs[-1][1]:
            runs[-1][0].append(here)
        else:
            runs.append(([before, here], much))
        before = here
    # A single point would not be seen.
    return [
        (points if len(points) > 1 else [points[0], (points[0][0] + 1, points[0][1])], much)
        for points, much in runs
    ]


def _times(chart: Chart, window: tuple[int, int]) -> None:
    since, until = window
    for index in range(_TICKS + 1):
        x = _x(index, _TICKS)
        moment = since + index * (until - since) // _TICKS
        text = tick_of(moment, until - since)
        chart.words.append(Words(x, chart.height - 14, text, size=11, anchor="middle"))


def _marks(chart: Chart, window: tuple[int, int], marks: Sequence[Checkpoint]) -> None:
    since, until = window
    for mark in marks:
        if since <= mark.at <= until:
            x = _x((mark.at - since) / max(1, until - since), 1)
            chart.strokes.append(Stroke([(x, _TOP), (x, chart.height - _BOTTOM)], "mark", dashed=True))
            chart.words.append(Words(x + 3, _TOP + 8, mark.text[:40], "mark", 11))
