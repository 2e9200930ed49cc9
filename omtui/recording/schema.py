"""The file of a recording: SQLite, so that any other program can read the figures too.

Times are milliseconds since the epoch.

* ``picture``: the cluster at one moment (`omtui.recording.picture`); ``whole`` is the time of the whole one
  that it is a change to, its own for a whole one.
* ``sums``: figures per node over ``width`` ms from ``at`` on: ``n`` pictures, the sums of ``load`` (standard
  units), ``used`` and ``total`` (bytes), ``guests`` and ``away``, and the ``high``est load.
* ``event``: what happened on a node, as the API tells it, in JSON.
* ``checkpoint``: what somebody wanted to find again. ``gap``: when nothing was recorded, and why.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from omtools.errors import BadRecording, CannotRecord, NoRecording
from omtools.i18n import _

VERSION = 1  # PRAGMA user_version: one more whenever the tables change, with a step in `_STEPS`
APPLICATION = 0x6F6D5265  # PRAGMA application_id: "omRe"
_PATIENCE = 5.0  # seconds that a reader and a writer wait for each other
_JOURNAL = 4 << 20  # bytes of the write-ahead log that stay when it was emptied

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE picture (at INTEGER PRIMARY KEY, whole INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE sums (
    width INTEGER, at INTEGER, node INTEGER, n INTEGER NOT NULL, load REAL NOT NULL, high REAL NOT NULL,
    used REAL NOT NULL, total REAL NOT NULL, guests INTEGER NOT NULL, away INTEGER NOT NULL,
    PRIMARY KEY (width, at, node)
) WITHOUT ROWID;
CREATE TABLE node (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, node INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX event_at ON event (at);
CREATE TABLE checkpoint (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE gap (since INTEGER PRIMARY KEY, until INTEGER, why TEXT NOT NULL);
"""
# From each version to the next one: what makes an older file one of today. There is only one version yet.
_STEPS: dict[int, str] = {}


@contextlib.contextmanager
def told(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Whatever SQLite says becomes an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        if writing and isinstance(error, sqlite3.OperationalError):
            raise CannotRecord(path=str(path), why=_plain(error)) from None
        raise BadRecording(path=str(path), why=_plain(error)) from None


def _plain(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return _("the disk is full")
    return str(error)


def open_to_write(path: Path) -> sqlite3.Connection:
    """A recording to go on with, or a new one.

    Raises:
        BadRecording: there is something else under that name.
        CannotRecord: it cannot be written there.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRecord(path=str(path), why=error.strerror or str(error)) from None
    with told(path, writing=True):
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        with told(path, writing=True):
            if connection.execute("PRAGMA page_count").fetchone() == (0,):
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _check(connection, path, new=True)
            # Where the file system cannot do that it stays as it is, and readers and the writer wait more.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL}")
            connection.execute("PRAGMA synchronous = NORMAL")
            _bring_up_to_date(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    script = _TABLES if version == 0 else "".join(_STEPS[step] for step in range(version, VERSION))
    marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
    connection.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")


def open_to_read(path: Path) -> sqlite3.Connection:
    """A recording to look at, also while it is being written.

    Raises:
        NoRecording: there is none.
        BadRecording: it is something else, or from a later version.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise NoRecording(path=str(path)) from None
    except OSError as error:
        raise BadRecording(path=str(path), why=error.strerror or str(error)) from None
    where = f"file:{quote(str(path.absolute()))}?mode=ro"
    with told(path):
        connection = sqlite3.connect(where, timeout=_PATIENCE, isolation_level=None, uri=True)
    try:
        with told(path):
            _check(connection, path)
    except BadRecording:
        connection.close()
        # On a disk that cannot be written, one with a write-ahead log opens only as one that never changes.
        with told(path):
            connection = sqlite3.connect(f"{where}&immutable=1", isolation_level=None, uri=True)
        try:
            with told(path):
                _check(connection, path)
        except BaseException:
            connection.close()
            raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, new: bool = False) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables and not version:
        if new:
            return
        raise NoRecording(path=str(path))
    if application != APPLICATION:
        raise BadRecording(path=str(path), why=_("it is a database of another program"))
    if version > VERSION:
        raise BadRecording(path=str(path), why=_("a later version of omcollector made it"))
