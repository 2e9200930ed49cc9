"""Plots in cells of a terminal: a column per stretch of time, to an eighth of a cell. Pure.

Drawn here, in some eighty lines, and not by a plotting library: plots have the roles of all our drawings, so
they follow the theme, NO_COLOR and plain text, and nothing has to be loaded for them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from omtui.analyzer.series import HIGH, NOTHING, Series, What, in_words
from omtui.moments import tick_of
from omtui.spans import Line, Role, Span, joined

_UP = " ▁▂▃▄▅▆▇█"
MARGIN = 6  # cells of the scale, at the left
_TICK = 16  # cells from one time below the plot to the next, at least
_MOST = 20  # lines of a plot where there are several


def plot(  # noqa: PLR0917 - all of them are what is drawn
    values: Sequence[float],
    height: int,
    top: float,
    high: float,
    marks: Collection[int] = (),
    shown: int = -1,
) -> list[Line]:
    """Values as columns.

    Args:
        values: one per column.
        height: in lines.
        top: the value at the upper end.
        high: from where on a column has another colour.
        marks: columns with a checkpoint.
        shown: the column of the moment that is shown, -1: none.
    """
    lines = []
    for row in range(height):
        below = (height - 1 - row) * 8
        cells = [
            _cell(value, below, height, top, high, column in marks, column == shown)
            for column, value in enumerate(values)
        ]
        lines.append(tuple(joined(cells)))
    return lines


def _cell(  # noqa: PLR0917 - the cell of one column
    value: float, below: int, height: int, top: float, high: float, marked: bool, shown: bool
) -> Span:
    eighths = max(0, min(8, round(value / top * height * 8) - below)) if value > 0 and top > 0 else 0
    if shown and not eighths:
        return Span("┃", "trouble")
    if marked and not eighths:
        return Span("┊", "key")
    if not below and not eighths:
        return Span("·" if value == NOTHING else "▁", "free")
    role: Role = "trouble" if shown else "key" if marked else "high" if value > high else "bar"
    return Span(_UP[eighths], role if eighths else "plain")


def axis(window: tuple[int, int], columns: int) -> Line:
    """The times below a plot."""
    since, until = window
    count = max(1, columns // _TICK)
    text = ""
    for index in range(count):
        place = index * columns // count
        moment = since + place * (until - since) // max(1, columns)
        text = text.ljust(place) + tick_of(moment, until - since)
    return (Span(" " * MARGIN + text[:columns], "axis"),)


def with_scale(lines: Sequence[Line], top: float) -> list[Line]:
    """A plot with its scale at the left."""
    made = []
    for row, line in enumerate(lines):
        label = f"{top:g}" if row == 0 else "0" if row == len(lines) - 1 else ""
        made.append((Span(f"{label[: MARGIN - 1]:>{MARGIN - 1}} ", "axis"), *line))
    return made


def lines_each(count: int, height: int) -> int:
    """Lines of the plot of one node, where so many are to be shown in that height."""
    return max(1, min(_MOST, (height - 1) // max(1, count) - 1))


def draw(  # noqa: PLR0917 - all of them are what is drawn
    series: Sequence[Series],
    what: What,
    window: tuple[int, int],
    top: float,
    height: int,
    marks: Collection[int] = (),
    shown: int = -1,
    chosen: int = 0,
) -> list[Line]:
    """A plot per node, one below the other, and the times below all.

    Args:
        series: the nodes; as many as there is room for are drawn.
        what: is drawn.
        window: from when to when.
        top: the value at the upper end of each.
        height: lines for all.
        marks: columns with a checkpoint.
        shown: the column of the moment that is shown, -1: none.
        chosen: the node that keys are for.
    """
    each = lines_each(len(series), height)
    lines: list[Line] = []
    columns = 0
    for one in series:
        if lines and len(lines) + each + 1 > height - 1:
            break
        columns = len(one.values)
        lines.append((Span(in_words(one, what), "own" if one.node == chosen else "title"),))
        lines += with_scale(plot(one.values, each, top, HIGH[what], marks, shown), top)
    return [*lines, axis(window, columns)]
