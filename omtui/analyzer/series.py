"""Figures of a recording as columns of a plot, and in a word. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from omtools.cluster.load import FULL
from omtools.i18n import N_, _
from omtui.recording.reader import Checkpoint, Sums

What = Literal["load", "memory", "guests"]
WHATS: tuple[What, ...] = ("load", "memory", "guests")
WHAT_NAMES = {"load": N_("load"), "memory": N_("memory, %"), "guests": N_("guests")}
NOTHING = -1.0  # in a column: nothing was recorded then
# From here on it is drawn in another colour, as openMosixanalyzer did with loads
HIGH: Mapping[What, float] = {"load": 0.75, "memory": 75.0, "guests": float("inf")}


class Series(NamedTuple):
    """One node in a stretch of time.

    Attributes:
        values: one per column, NOTHING where nothing was recorded.
        mean: of all that was recorded.
        high: the highest that was seen, also between two columns.
    """

    node: int
    name: str
    values: list[float]
    mean: float = 0.0
    high: float = 0.0


def figure(one: Sums, what: What) -> float:
    """Load in processors, memory in percent, guests."""
    if what == "load":
        return one.load / FULL
    if what == "memory":
        return 100 * one.used / one.total if one.total else 0.0
    return one.guests


def series_of(
    sums: Sequence[Sums], names: Mapping[int, str], what: What, window: tuple[int, int], columns: int
) -> list[Series]:
    """All nodes, by number.

    Args:
        sums: of the window, in whatever width.
        names: of the nodes.
        what: of their figures.
        window: from when to when, milliseconds since the epoch.
        columns: of the plot; where sums are wider than one, they fill several.
    """
    since, until = window
    found: dict[int, list[Sums]] = {}
    for one in sums:
        found.setdefault(one.node, []).append(one)
    width = _width_of(sums)
    made = []
    for node, own in sorted(found.items()):
        values: list[list[float]] = [[] for _column in range(columns)]
        for one in own:
            first = (one.at - since) * columns // max(1, until - since)
            last = (one.at + width - 1 - since) * columns // max(1, until - since)
            for column in range(max(0, first), min(columns, max(first, last) + 1)):
                values[column].append(figure(one, what))
        figures = [figure(one, what) for one in own]
        high = max((one.high / FULL for one in own), default=0.0) if what == "load" else max(figures)
        columns_of = [sum(column) / len(column) if column else NOTHING for column in values]
        made.append(Series(node, names.get(node, ""), columns_of, sum(figures) / len(figures), high))
    return made


def _width_of(sums: Sequence[Sums]) -> int:
    """Milliseconds that each of them stands for."""
    times = sorted({one.at for one in sums})
    return min((later - earlier for earlier, later in pairwise(times)), default=10_000)


def top_of(series: Iterable[Series], what: What) -> float:
    """The figure at the upper end of the scale, the same for all nodes."""
    if what == "memory":
        return 100.0
    highest = max((value for one in series for value in one.values), default=0.0)
    steps = (base * 10**power for power in range(6) for base in (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))
    return next((step for step in steps if step >= highest), highest)


def in_words(one: Series, what: What) -> str:
    """What openMosixanalyzer's button "find out" told."""
    if what == "memory":
        said = _("{number} {name}: memory {mean:.0f} % on average, {high:.0f} % at most")
    elif what == "load":
        said = _("{number} {name}: load {mean:.2f} on average, {high:.2f} at most")
    else:
        said = _("{number} {name}: {mean:.1f} guests on average, {high:.0f} at most")
    return said.format(number=one.node, name=one.name, mean=one.mean, high=one.high)


def columns_of(marks: Iterable[Checkpoint], window: tuple[int, int], columns: int) -> set[int]:
    """Where the checkpoints are."""
    since, until = window
    found = {(mark.at - since) * columns // max(1, until - since) for mark in marks}
    return {column for column in found if 0 <= column < columns}
