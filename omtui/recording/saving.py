"""A copy of a recording as one file, for another machine; also while it is being written."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from omtools.errors import BadRecording, CannotRecord
from omtools.i18n import _
from omtui.recording.schema import open_to_read, told


def save(path: Path, target: Path) -> None:
    """Copy a recording as it is at this moment; a file that is there already is left alone.

    Raises:
        NoRecording: there is none.
        BadRecording: it is something else.
        CannotRecord: the copy cannot be written; nothing of it is left then.
    """
    source = open_to_read(path)
    try:
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError as error:
            why = _("it is there already") if isinstance(error, FileExistsError) else error.strerror
            raise CannotRecord(path=str(target), why=why or str(error)) from None
        try:
            _copy(source, target)
        except BaseException:
            for name in (target, target.with_name(target.name + "-journal")):
                with contextlib.suppress(OSError):
                    name.unlink()
            raise
    finally:
        source.close()


def _copy(source: sqlite3.Connection, target: Path) -> None:
    with told(target, writing=True):
        copy = sqlite3.connect(target, isolation_level=None)
    try:
        with told(target, writing=True):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, also where nothing can be written
            (found,) = copy.execute("PRAGMA quick_check").fetchone()
        if found != "ok":
            raise BadRecording(path=str(target), why=found)
    finally:
        copy.close()
