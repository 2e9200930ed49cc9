"""Writes a recording: picture after picture, and what happened in between; bounded in age and size."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from omtools.agent import api
from omtools.errors import CannotRecord
from omtools.i18n import _
from omtui.model import is_up, used_memory
from omtui.recording.keeping import SPARSE_MS, WIDTHS_MS, Ages, next_whole
from omtui.recording.picture import Picture, copied, difference, packed
from omtui.recording.schema import open_to_write, told

_BETWEEN_MS = 60_000  # from one look at what is too old to the next
_GAP_MS = 15_000  # without a picture, after which it is said that there was none
_SHRINKINGS = 40  # until nothing but the last minute is left
_SUM = """INSERT INTO sums VALUES (?,?,?,1,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + 1,
    load = load + excluded.load, high = max(high, excluded.high), used = used + excluded.used,
    total = total + excluded.total, guests = guests + excluded.guests, away = away + excluded.away"""


class Recorder:
    """Writes into one file; whatever a method has returned from is kept, whatever happens then.

    Attributes:
        path: of the file.
        ages: how old what may become.
        limit: bytes that are kept at most; 0: no limit.
    """

    def __init__(self, path: Path, ages: Ages | None = None, limit: int = 0) -> None:
        """Open the file, or make it.

        Raises:
            OmError: it is something else, or cannot be written.
        """
        self.path = path
        self.ages = ages or Ages()
        self.limit = limit
        self._whole: int | None = None
        self._thinned = 0
        self._open()

    def _open(self) -> None:
        self._database = open_to_write(self.path)
        self._is_open = True
        self._inode = _inode(self.path)
        self._before: Picture | None = None
        self._names: dict[int, str] = {}
        self._last = self._newest()

    def _newest(self) -> int | None:
        with told(self.path):
            found: tuple[int | None] = self._database.execute("SELECT max(at) FROM picture").fetchone()
        return found[0]

    def close(self) -> None:
        """Have done."""
        self._database.close()

    # ----------------------------------------------------------------------------------- writing

    def write(
        self,
        at: int,
        picture: Picture,
        asked: Iterable[int] = (),
        events: Iterable[tuple[int, int, api.Told]] = (),
        why: str = "",
    ) -> None:
        """Write what is so now, and what happened since the last time: all of it, or nothing.

        Args:
            at: milliseconds since the epoch; after a clock was set back, just after the last picture.
            picture: all that is known now.
            asked: the nodes that were asked for their processes since the last picture.
            events: time, node and event of each.
            why: there was no picture for a while, if there was none.

        Raises:
            CannotRecord: there is no room; everything before is as it was.
        """
        if not self._is_open:
            self._open()
        last = self._last
        at = at if last is None else max(at, last + 1)
        whole = self._before is None or next_whole(self._whole, at)
        before = Picture() if whole or self._before is None else self._before
        data = packed(difference(before, picture, asked))
        names = {view.number: view.name for view in picture.nodes.values()}
        with told(self.path, writing=True), _Transaction(self._database) as database:
            if last is None:
                self._tell_of_itself(picture, at)
            elif at - last > _GAP_MS:
                reason = why or _("omcollector did not run")
                database.execute("INSERT OR REPLACE INTO gap VALUES (?, ?, ?)", (last, at, reason))
            key = at if whole else self._whole
            database.execute("INSERT INTO picture VALUES (?, ?, ?)", (at, key, data))
            self._write_rest(at, picture, events, names)
        self._names = names
        self._last = at
        self._whole = at if whole else self._whole
        self._before = copied(picture)
        if at - self._thinned >= _BETWEEN_MS:
            self._thinned = at
            with contextlib.suppress(
                CannotRecord
            ):  # this picture is written; the next one tells of a full disk
                self.thin(at)
            self._leave_if_gone()

    def _write_rest(
        self,
        at: int,
        picture: Picture,
        events: Iterable[tuple[int, int, api.Told]],
        names: dict[int, str],
    ) -> None:
        """What is beside the pictures."""
        self._database.executemany(
            "INSERT INTO event (at, node, data) VALUES (?, ?, ?)",
            [(when, node, msgspec.json.encode(event).decode()) for when, node, event in events],
        )
        if names != self._names:
            self._database.executemany("INSERT OR REPLACE INTO node VALUES (?, ?)", names.items())
        self._database.executemany(_SUM, _sums(at, picture))

    def _leave_if_gone(self) -> None:
        """Somebody may have removed or replaced the file: what went into that one nobody would ever see."""
        if _inode(self.path) != self._inode:
            self._database.close()
            self._is_open = False  # the next picture begins a new one

    def _tell_of_itself(self, picture: Picture, at: int) -> None:
        own = picture.nodes.get(picture.own)
        rows = {"own": str(picture.own), "name": own.name if own else "", "begun": str(at)}
        self._database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows.items())

    def checkpoint(self, at: int, text: str) -> None:
        """Mark a moment. Raises CannotRecord."""
        with told(self.path, writing=True):
            self._database.execute("INSERT INTO checkpoint (at, text) VALUES (?, ?)", (at, text))

    # ---------------------------------------------------------------------------------- thinning

    def thin(self, now: int) -> None:
        """Drop what is too old, and more where that does not suffice.

        Raises:
            CannotRecord: not even that can be written.
        """
        with told(self.path, writing=True):
            self._drop(now, self.ages)
            ages = self.ages
            if self.limit and self.used() > self.limit:
                oldest = self._database.execute("SELECT min(at) FROM picture").fetchone()[0] or now
                ages = ages.within(now - oldest)
            for _round in range(_SHRINKINGS):
                if not self.limit or self.used() <= self.limit:
                    break
                ages = ages.shrunk()
                self._drop(now, ages)
            if self.limit and self._pages() > self.limit:
                self._database.execute("PRAGMA incremental_vacuum").fetchall()

    def used(self) -> int:
        """Bytes of the file that have something in them."""
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return self._pages() - int(free) * int(size)

    def _pages(self) -> int:
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    def _drop(self, now: int, ages: Ages) -> None:
        with _Transaction(self._database) as database:
            # Without its whole picture a change is worth nothing: both go, or the changes first.
            database.execute("DELETE FROM picture WHERE whole < ? AND at <> whole", (now - ages.changes,))
            database.execute(
                """DELETE FROM picture WHERE at < :old AND at = whole AND at NOT IN
                   (SELECT min(at) FROM picture WHERE at < :old AND at = whole GROUP BY at / :sparse)""",
                {"old": now - max(ages.whole, ages.changes), "sparse": SPARSE_MS},
            )
            database.execute("DELETE FROM picture WHERE whole < ?", (now - ages.all,))
            for width, age in ages.widths().items():
                database.execute("DELETE FROM sums WHERE width = ? AND at < ?", (width, now - age))
            database.execute("DELETE FROM event WHERE at < ?", (now - ages.all,))
            database.execute("DELETE FROM checkpoint WHERE at < ?", (now - ages.all,))
            database.execute("DELETE FROM gap WHERE until < ?", (now - ages.all,))


def _inode(path: Path) -> int:
    """What tells this file from another one of that name; 0: there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _sums(at: int, picture: Picture) -> list[tuple[object, ...]]:
    return [
        (
            width,
            at // width * width,
            view.number,
            view.load,
            view.load,
            used_memory(view),
            view.mem_total,
            view.guests,
            view.away,
        )
        for view in picture.nodes.values()
        if is_up(view)
        for width in WIDTHS_MS
    ]


class _Transaction:
    """All of it, or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            try:
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._database.in_transaction:  # SQLite itself gives up a transaction when the disk is full
            self._database.execute("ROLLBACK")
