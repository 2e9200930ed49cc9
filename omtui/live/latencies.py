"""How long the forwarded calls of one process take, and what travels at this moment, as lines. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from omtools.agent import api
from omtools.i18n import _
from omtui.cells import bar, curve
from omtui.columns import put
from omtui.model import State
from omtui.moving import Flight, flight_words
from omtui.spans import Line, Span

_NAME, _TIME = 10, 5  # cells
_LEFT = _NAME + 2 * (_TIME + 1) + 1
_BINS = 25  # that are drawn: up to 16 seconds
_MARKS = ((1, "1µ"), (4, "8µ"), (8, "128µ"), (11, "1m"), (14, "8m"), (18, "131m"), (21, "1s"), (24, "8s"))


def time_of(microseconds: int) -> str:
    """A time in four cells at most: 64µ, 16m (milliseconds), 2s."""
    if microseconds < 1000:
        return f"{microseconds}µ"
    return f"{microseconds // 1000}m" if microseconds < 1_000_000 else f"{microseconds // 1_000_000}s"


def merged(bins: Sequence[int], each: int) -> list[int]:
    """So many neighbours as one; what is beyond the last one that is drawn counts as that."""
    shown = [*bins[:_BINS], *[0] * (_BINS - len(bins))]
    shown[-1] += sum(bins[_BINS:])
    return [sum(shown[start : start + each]) for start in range(0, _BINS, each)]


def axis(each: int) -> str:
    """What stands above the cells: the times at which some of them begin."""
    room = math.ceil(_BINS / each)
    cells = [" "] * room
    free = 0
    for index, text in _MARKS:
        at = index // each
        if at >= free and at + len(text) <= room:
            cells[at : at + len(text)] = text
            free = at + len(text) + 1
    return "".join(cells).rstrip()


def latency_lines(pid: int, figures: api.CallFigures, width: int, height: int) -> list[Line]:
    """A line for each call: within what time half of them and 99 of 100 were answered, and all by time.

    Args:
        pid: of the process.
        figures: of its calls.
        width: cells of a line.
        height: lines that there is room for.
    """
    count = sum(one.calls for one in figures.calls)
    title = _("process {pid}: {n} calls").format(pid=pid, n=count)
    room = width - _LEFT
    each = next(size for size in range(1, _BINS + 1) if math.ceil(_BINS / size) <= max(1, room))
    half = put(_("half in"), _NAME + _TIME + 1, right=True)
    heads = f"{half} {put('99 %', _TIME, right=True)} {axis(each)}"
    lines: list[Line] = [(Span(title[:width], "title"),), (Span(heads[:width], "axis"),)]
    for one in figures.calls[: max(0, height - 2)]:
        found = merged(one.bins, each)
        drawn = curve(found, len(found), max(found, default=0))
        figured = " ".join(put(time_of(one.within_us(share)), _TIME, right=True) for share in (0.5, 0.99))
        lines.append((Span(f"{put(one.name, _NAME)} {figured} "), Span(drawn[: max(0, room)], "bar")))
    return lines


def flight_lines(flights: Iterable[Flight], state: State, width: int) -> list[Line]:
    """A line for each process whose pages travel: where to, how far, how fast; none if none does."""
    lines: list[Line] = []
    for flight in flights:
        target = f" → {state.name_of(flight.target)}" if flight.target else ""
        said = flight_words(flight)
        room = max(4, width - 18 - len(said))
        lines.append((
            Span(put(f"{flight.pid}{target}", 16) + " ", "away"),
            Span(bar(flight.share, room), "bar"),
            Span(" " + said),
        ))  # fmt: skip
    return [(Span(_("pages on their way"), "title"),), *lines] if lines else []
