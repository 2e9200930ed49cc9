"""How long what is kept: the older, the fewer. Pure.

A recording keeps *pictures* (whole ones, and changes between them), *sums* of load and memory for plots in
three widths, and *events*. What is older than it should be is dropped; where that leaves too much for the
size that was allowed, all ages are halved until it fits.
"""

from __future__ import annotations

from typing import NamedTuple

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
WHOLE_MS = MINUTE_MS  # from one whole picture to the next
SPARSE_MS = 10 * MINUTE_MS  # between those that are left when they are old
WIDTHS_MS = (10_000, MINUTE_MS, 10 * MINUTE_MS)  # of sums
_LEAST_MS = MINUTE_MS  # however little room there is


class Ages(NamedTuple):
    """How old what may become, in milliseconds.

    Attributes:
        changes: pictures between the whole ones.
        whole: one picture a minute; of older ones one in ten minutes is kept.
        narrow: sums of ten seconds.
        middle: sums of a minute.
        all: everything.
    """

    changes: int = 2 * HOUR_MS
    whole: int = 2 * DAY_MS
    narrow: int = DAY_MS
    middle: int = 7 * DAY_MS
    all: int = 30 * DAY_MS

    def within(self, longest: int) -> Ages:
        """The same, but nothing older than that."""
        return Ages(*(min(age, max(_LEAST_MS, longest)) for age in self))

    def shrunk(self) -> Ages:
        """Half of everything; what takes the most room, changes, goes first to a minute."""
        if self.changes > _LEAST_MS:
            return self._replace(changes=max(_LEAST_MS, self.changes // 2))
        return Ages(*(max(_LEAST_MS, age // 2) for age in self))

    def widths(self) -> dict[int, int]:
        """Age by width of sums."""
        return dict(zip(WIDTHS_MS, (self.narrow, self.middle, self.all), strict=True))


def width_for(span: int, cells: int) -> int:
    """The width of sums to draw so many milliseconds in so many cells: the widest that fills each cell."""
    cell = span / max(1, cells)
    return max((width for width in WIDTHS_MS if width <= cell), default=WIDTHS_MS[0])


def next_whole(last: int | None, now: int) -> bool:
    """Whether the picture of this moment is to be a whole one; `last` is the time of the last whole one."""
    return last is None or now // WHOLE_MS != last // WHOLE_MS
