"""How long forwarded calls took, as the guest sees it: from its trap to the answer, by call. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from omtools.migration.calls.table import name
from omtools.migration.orders import CallTimes

BINS = 32  # powers of two of a microsecond: the last one begins at 18 minutes


@dataclass(slots=True)
class _Row:
    total_ns: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)


class Latencies:
    """Counts; noting one costs less than a microsecond."""

    def __init__(self) -> None:
        """Nothing was forwarded yet."""
        self._rows: dict[int, _Row] = {}

    def note(self, nr: int, nanoseconds: int) -> None:
        """A call with that number took so long."""
        row = self._rows.get(nr)
        if row is None:
            row = self._rows[nr] = _Row()
        row.total_ns += nanoseconds
        row.bins[min((nanoseconds // 1000).bit_length(), BINS - 1)] += 1

    def figures(self) -> list[CallTimes]:
        """All calls, the one with the most first."""
        found = [
            CallTimes(name(nr), sum(row.bins), row.total_ns // 1000, _without_tail(row.bins))
            for nr, row in self._rows.items()
        ]
        return sorted(found, key=lambda one: (-one.calls, one.name))


def _without_tail(bins: list[int]) -> list[int]:
    return bins[: max((index + 1 for index, count in enumerate(bins) if count), default=0)]
