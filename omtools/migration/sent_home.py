"""An open file that nobody has a name for, and that this node alone has: its content goes home."""

from __future__ import annotations

import errno
import os
import struct

from omtools.migration.at_home import AtHome, plain
from omtools.migration.calls.model import Forward
from omtools.migration.unlinked import pieces

_OPEN, _PWRITE, _CLOSE, _FTRUNCATE = 2, 18, 3, 77  # <asm/unistd_64.h>
_MEMFD_CREATE, _UTIMENSAT = 319, 280  # likewise
_CLOEXEC = 1  # MFD_CLOEXEC, <linux/memfd.h>
_PLACES = (b"/var/tmp\0", b"/tmp\0")
_IN_MEMORY = 64 << 20  # bytes of a file that home keeps in its memory where no disk has room
_PIECE = 128 << 10
_TIMES = struct.Struct("<4q")  # two of struct timespec


def send_home(home: AtHome, link: str, status: os.stat_result) -> int:
    """Make a file without a name at home that is like the one to which `link` leads, in /proc.

    Returns the deputy's descriptor, open for both; its owner alone may open the file. `status` has the size
    and times that it shall have. Raises OSError: nowhere at home is room for it, or it cannot be read here.
    """
    source = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    try:
        why = -errno.ENOSPC
        for place in (*_PLACES, b""):
            copy = _make(home, place, status.st_blocks * 512)
            if copy < 0:
                why = copy
                continue
            why = _fill(home, source, copy, status)
            if why >= 0:
                return copy
            plain(home, _CLOSE, copy)
    finally:
        os.close(source)
    raise OSError(-why, os.strerror(-why))


def memory_file(home: AtHome) -> int:
    """A new regular file of the deputy's that has no name, in memory: its descriptor or minus an errno."""
    base = home.arena.base
    return home.ask(Forward(_MEMFD_CREATE, (base, _CLOEXEC, 0, 0, 0, 0), b"\0", 1, may_block=False))[0]


def _make(home: AtHome, place: bytes, size: int) -> int:
    if not place:
        return memory_file(home) if size <= _IN_MEMORY else -errno.ENOSPC
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | os.O_EXCL
    arguments = (home.arena.base, flags, 0o600, 0, 0, 0)
    return home.ask(Forward(_OPEN, arguments, place, len(place), may_block=False))[0]


def _fill(home: AtHome, source: int, copy: int, status: os.stat_result) -> int:
    """Content and times; 0 or minus an errno. Raises OSError if it cannot be read here."""
    done = plain(home, _FTRUNCATE, copy, status.st_size)
    if done < 0:
        return done
    for position, length in pieces(source, status.st_size, min(_PIECE, home.arena.size)):
        data = os.pread(source, length, position)
        arguments = (copy, home.arena.base, len(data), position, 0, 0)
        done = home.ask(Forward(_PWRITE, arguments, data, len(data), may_block=False))[0]
        if done != len(data):
            return done if done < 0 else -errno.ENOSPC
    times = _TIMES.pack(
        *divmod(status.st_atime_ns, 1_000_000_000), *divmod(status.st_mtime_ns, 1_000_000_000)
    )
    arguments = (copy, 0, home.arena.base, 0, 0, 0)
    return home.ask(Forward(_UTIMENSAT, arguments, times, len(times), may_block=False))[0]
