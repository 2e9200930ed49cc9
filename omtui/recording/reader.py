"""Reads a recording, also one that is being written at this moment, and one of another machine."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from omtools.agent import api
from omtools.errors import BadRecording
from omtui.recording.keeping import WIDTHS_MS
from omtui.recording.picture import Change, unpacked
from omtui.recording.schema import open_to_read, told

_decoder = msgspec.json.Decoder(api.Told)
_PIECE = 200  # pictures that are fetched together


class Frame(NamedTuple):
    """A picture as it is kept.

    Attributes:
        at: milliseconds since the epoch.
        whole: it is complete by itself.
        change: to the one before it, or to nothing.
    """

    at: int
    whole: bool
    change: Change


class Happened(NamedTuple):
    """An event.

    Attributes:
        at: milliseconds since the epoch.
        node: where.
    """

    at: int
    node: int
    event: api.Told


class Checkpoint(NamedTuple):
    """A marked moment, in milliseconds since the epoch."""

    at: int
    text: str


class Gap(NamedTuple):
    """A time when nothing was recorded, in milliseconds since the epoch."""

    since: int
    until: int
    why: str


class Sums(NamedTuple):
    """Means of a node over some time.

    Attributes:
        at: where it begins, milliseconds since the epoch.
        load: standard units; `high` is the highest.
        used: bytes of memory, `total` all there is.
    """

    at: int
    node: int
    load: float
    high: float
    used: float
    total: float
    guests: float
    away: float


class Recording:
    """A recording to read. Close it."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            NoRecording: there is none.
            BadRecording: it is something else.
        """
        self.path = path
        self._database = open_to_read(path)

    def close(self) -> None:
        """Have done."""
        self._database.close()

    def _all(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with told(self.path):
            return self._database.execute(query, values).fetchall()

    def _number(self, query: str, *values: object) -> int | None:
        found = self._all(query, *values)[0][0]
        return found if isinstance(found, int) else None

    def about(self) -> dict[str, str]:
        """The node from which it was recorded (`own`, `name`), and when it `begun`."""
        return {str(name): str(value) for name, value in self._all("SELECT name, value FROM about")}

    def span(self) -> tuple[int, int] | None:
        """Times of the first and the last picture; None: there is none."""
        first = self._number("SELECT min(at) FROM picture")
        last = self._number("SELECT max(at) FROM picture")
        return None if first is None or last is None else (first, last)

    def plotted_span(self) -> tuple[int, int] | None:
        """From when to when there are figures for plots."""
        first, last = (
            self._number(f"SELECT {which}(at) FROM sums WHERE width = ?", WIDTHS_MS[-1])
            for which in ("min", "max")
        )
        return None if first is None or last is None else (first, last + WIDTHS_MS[-1])

    def before(self, at: int) -> int | None:
        """The last picture before that time."""
        return self._number("SELECT max(at) FROM picture WHERE at < ?", at)

    def after(self, at: int) -> int | None:
        """The first picture after that time."""
        return self._number("SELECT min(at) FROM picture WHERE at > ?", at)

    def frames(self, since: int, until: int) -> Iterator[Frame]:
        """The pictures from the whole one at or before `since` (else the first after it) to `until`."""
        begin = self._number("SELECT max(at) FROM picture WHERE at = whole AND at <= ?", since)
        if begin is None:
            begin = self._number("SELECT min(at) FROM picture WHERE at = whole")
        yield from self._frames(begin, until, "at >= ?")

    def frames_after(self, at: int, until: int) -> Iterator[Frame]:
        """The pictures after one, for whoever has that one."""
        yield from self._frames(at, until, "at > ?")

    def _frames(self, begin: int | None, until: int, first: str) -> Iterator[Frame]:
        while begin is not None:
            where = f"{first} AND at <= ? ORDER BY at LIMIT {_PIECE}"
            piece = self._all(f"SELECT at, whole, data FROM picture WHERE {where}", begin, until)
            for at, whole, data in piece:
                assert isinstance(at, int)
                assert isinstance(data, bytes)
                yield Frame(at, at == whole, unpacked(data, str(self.path)))
                begin = at
            if len(piece) < _PIECE:
                return
            first = "at > ?"

    def events(self, since: int, until: int, most: int = 2000, node: int | None = None) -> list[Happened]:
        """What happened after `since` and not after `until`, oldest first; of very much the latest.

        Args:
            since: milliseconds since the epoch.
            until: the same.
            most: how many.
            node: where; None: everywhere.
        """
        query = """SELECT at, node, data FROM event WHERE at > ? AND at <= ? AND (? IS NULL OR node = ?)
            ORDER BY at DESC, id DESC LIMIT ?"""
        found = []
        for at, where_it_was, data in reversed(self._all(query, since, until, node, node, most)):
            assert isinstance(at, int)
            assert isinstance(where_it_was, int)
            try:
                found.append(Happened(at, where_it_was, _decoder.decode(str(data))))
            except msgspec.ValidationError:  # an event that this version does not know
                continue
            except msgspec.MsgspecError as error:
                raise BadRecording(path=str(self.path), why=str(error)) from None
        return found

    def checkpoints(self) -> list[Checkpoint]:
        """All marked moments, oldest first."""
        rows = self._all("SELECT at, text FROM checkpoint ORDER BY at, id")
        return [Checkpoint(at, str(text)) for at, text in rows if isinstance(at, int)]

    def gap_at(self, at: int) -> Gap | None:
        """The gap in which a moment lies, if it lies in one."""
        for since, until, why in self._all(
            "SELECT since, until, why FROM gap WHERE since < ? AND until > ? LIMIT 1", at, at
        ):
            if isinstance(since, int) and isinstance(until, int):
                return Gap(since, until, str(why))
        return None

    def names(self) -> dict[int, str]:
        """The nodes that were ever seen."""
        rows = self._all("SELECT number, name FROM node ORDER BY number")
        return {number: str(name) for number, name in rows if isinstance(number, int)}

    def sums(
        self, since: int, until: int, width: int, cell: int = 0, nodes: Collection[int] | None = None
    ) -> list[Sums]:
        """Means over so many milliseconds each, oldest first; where the narrow ones are gone, wider ones.

        Args:
            since: milliseconds since the epoch.
            until: the same.
            width: one of `WIDTHS_MS`.
            cell: put so many milliseconds, counted from `since`, together; 0: leave them as they are.
            nodes: only these; None: all.
        """
        width = self._width_there(since, width)
        which = "" if nodes is None else f"AND node IN ({','.join(str(int(node)) for node in nodes)})"
        query = f"""SELECT min(at), node, sum(load) / sum(n), max(high), sum(used) / sum(n),
            sum(total) / sum(n), sum(guests) * 1.0 / sum(n), sum(away) * 1.0 / sum(n) FROM sums
            WHERE width = ? AND at > ? AND at < ? {which} GROUP BY (at - ?) / ?, node ORDER BY 1, node"""
        values = (width, since - width, until, since - width, max(width, cell))
        rows = self._all(query, *values)
        return [Sums(*row) for row in rows]  # type: ignore[arg-type]  # the tables say what they are

    def mean_loads(self, since: int, until: int, width: int) -> list[tuple[int, float]]:
        """Mean load of all nodes that were up, with the time where each stretch of `width` begins."""
        width = self._width_there(since, width)
        query = "SELECT at, sum(load) / sum(n) FROM sums WHERE width = ? AND at > ? AND at < ? GROUP BY at"
        rows = self._all(query, width, since - width, until)
        return [(at, mean) for at, mean in rows if isinstance(at, int) and isinstance(mean, float)]

    def _width_there(self, since: int, width: int) -> int:
        """That width, or a wider one if that reaches further back."""
        widest = WIDTHS_MS[-1]
        first = self._number("SELECT min(at) FROM sums WHERE width = ?", widest)
        for wide in [one for one in WIDTHS_MS if width <= one < widest]:
            oldest = self._number("SELECT min(at) FROM sums WHERE width = ?", wide)
            # Wider ones are no help where they do not reach further back.
            if oldest is not None and (oldest <= since or first is None or first + widest > oldest):
                return wide
        return widest
