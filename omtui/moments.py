"""Moments of the past: how they are typed, shown, and how much of the time around them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from omtools.errors import UsageError
from omtools.i18n import _
from omtui.cells import curve
from omtui.recording.keeping import DAY_MS, HOUR_MS, MINUTE_MS
from omtui.recording.reader import Checkpoint
from omtui.spans import Line, Span, joined

SPANS_MS = (
    10 * MINUTE_MS,
    HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,  # what openMosixanalyzer showed
    DAY_MS,
    3 * DAY_MS,
    7 * DAY_MS,
    30 * DAY_MS,
)
_UNITS = {"s": 1000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_AGO = re.compile(r"([+-]?)(\d{1,6})([smhd])")
_CLOCK = re.compile(r"(?:(\d{4})-(\d\d?)-(\d\d?)[ T])?(\d\d?):(\d\d)(?::(\d\d))?")
MARK = "◆"


def parse_moment(text: str, shown: int, now: int, marks: Sequence[Checkpoint] = ()) -> int:
    """A moment that was typed, in milliseconds since the epoch.

    Args:
        text: "14:05", "14:05:30", "2026-11-23 14:05"; "10m" or "-10m" before the moment that is shown, "+2h"
            after it; or the text of a checkpoint, or its beginning.
        shown: that moment.
        now: the present; a time of the day is the last one before it.
        marks: the checkpoints.

    Raises:
        UsageError: it is none of these.
    """
    word = text.strip()
    if found := _AGO.fullmatch(word):
        sign, number, unit = found.groups()
        return shown + (1 if sign == "+" else -1) * int(number) * _UNITS[unit]
    if found := _CLOCK.fullmatch(word):
        year, month, day, *clock = found.groups()
        hour, minute, second = (int(part or 0) for part in clock)
        today = datetime.fromtimestamp(now / 1000)
        try:
            there = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
            if year:
                there = there.replace(int(year), int(month), int(day))
            elif there > today:
                there -= timedelta(days=1)
        except ValueError:
            raise UsageError(detail=_("“{text}” is no time.").format(text=text)) from None
        return round(there.timestamp() * 1000)
    mark = next((mark for mark in marks if word and mark.text.startswith(word)), None)
    if mark is None:
        raise UsageError(detail=_("“{text}” is no time.").format(text=text))
    return mark.at


def clock_of(at: int) -> str:
    """A moment for people."""
    return f"{datetime.fromtimestamp(at / 1000):%Y-%m-%d %H:%M:%S}"


def tick_of(at: int, span: int) -> str:
    """A moment under a plot of so many milliseconds."""
    there = datetime.fromtimestamp(at / 1000)
    return f"{there:%d.%m. %H:%M}" if span >= DAY_MS else f"{there:%H:%M}"


def length_of(span: int) -> str:
    """How long, for people: 10 min, 6 h, 3 d."""
    if span >= DAY_MS:
        return f"{span / DAY_MS:.0f} d"
    return f"{span / HOUR_MS:.0f} h" if span >= HOUR_MS else f"{span / MINUTE_MS:.0f} min"


def zoomed(span: int, steps: int) -> int:
    """The next longer or shorter stretch of time."""
    near = min(range(len(SPANS_MS)), key=lambda index: abs(SPANS_MS[index] - span))
    return SPANS_MS[max(0, min(len(SPANS_MS) - 1, near + steps))]


def window_around(at: int, span: int, first: int, last: int) -> tuple[int, int]:
    """So much time, with the moment in it, as far as it can be filled with what was recorded."""
    end = min(max(at + span // 2, first + span), max(last, at))
    return end - span, end


def cell_at(at: int, window: tuple[int, int], width: int) -> int:
    """The cell in which a moment lies; outside of it if it does not."""
    since, until = window
    return (at - since) * width // max(1, until - since)


def moment_at(cell: int, window: tuple[int, int], width: int) -> int:
    """The middle of a cell."""
    since, until = window
    return since + (2 * cell + 1) * (until - since) // (2 * max(1, width))


def load_per_cell(found: Sequence[tuple[int, float]], window: tuple[int, int], width: int) -> list[float]:
    """The mean load in each cell, of loads with their times; -1 where nothing was recorded."""
    loads: list[list[float]] = [[] for _cell in range(width)]
    for at, load in found:
        cell = cell_at(at, window, width)
        if 0 <= cell < width:
            loads[cell].append(load)
    return [sum(there) / len(there) if there else -1.0 for there in loads]


def timeline(
    loads: Sequence[float], window: tuple[int, int], at: int, marks: Sequence[Checkpoint], width: int
) -> Line:
    """One line: the load of the time around the moment, the moment, and the checkpoints."""
    top = max(100.0, *loads, 100.0)
    cells = [
        Span(curve([load], 1, top), "bar") if load >= 0 else Span("·", "free") for load in list(loads)[:width]
    ]
    for mark in marks:
        cell = cell_at(mark.at, window, width)
        if 0 <= cell < len(cells):
            cells[cell] = Span(MARK, "number")
    cell = min(max(0, cell_at(at, window, width)), max(0, len(cells) - 1))
    if cells:
        cells[cell] = Span("┃", "key")
    return tuple(joined(cells))
