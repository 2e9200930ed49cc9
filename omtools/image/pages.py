"""The contents of a process's memory: which pages travel, read from one process, written to another.

A `PageSource` yields rounds of ranges. Copy mode has a single round, taken while the process is stopped;
pre-copy would yield earlier rounds while it still runs, post-copy an empty one and serve the rest later.
Whoever sends only sees rounds, whoever receives only sees (address, bytes).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from omtools.errors import CannotMigrate
from omtools.i18n import _
from omtools.image.model import Region
from omtools.linux.memory import PageMap, ProcessMemory
from omtools.linux.x86_64 import PAGE

CHUNK = 1 << 18  # bytes read, sent and written at a time: so few that they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Range:
    """Pages [start, end) of one region; `readable` as the process itself may read them."""

    start: int
    end: int
    readable: bool


class PageSource(Protocol):
    """Where pages come from."""

    def rounds(self) -> Iterator[list[Range]]:
        """Ranges to send, round by round; before the last round the caller stops the process."""
        ...


class CopySource:
    """All pages in one round: the process is stopped."""

    def __init__(self, pid: int, regions: Iterable[Region]) -> None:
        self._pid = pid
        self._regions = list(regions)

    def rounds(self) -> Iterator[list[Range]]:
        """The one round."""
        yield ranges_of(self._pid, self._regions)


def ranges_of(pid: int, regions: Iterable[Region]) -> list[Range]:
    """What has to travel of each region.

    Of anonymous memory what exists; of a mapped file everything a program could read, for a page that
    was never touched at home may be touched away. Of a twin (`omtools.image.twins`) only what was changed.
    """
    pagemap = PageMap(pid)
    found = []
    try:
        for region in regions:
            readable = bool(region.protection & 1)
            if region.file and region.protection and not region.twin:
                runs = [(region.start, _file_end(pid, region))]
            else:
                runs = pagemap.runs(region.start, region.end, private_only=region.file)
            found += [Range(start, end, readable) for start, end in runs if end > start]
    finally:
        pagemap.close()
    return found


def _file_end(pid: int, region: Region) -> int:
    """Where a file mapping's readable pages end: behind the last page of the file there is only SIGBUS."""
    try:
        size = os.stat(f"/proc/{pid}/map_files/{region.start:x}-{region.end:x}").st_size
    except OSError:
        try:
            size = os.stat(region.name).st_size if not region.name.endswith(" (deleted)") else region.end
        except OSError:
            return region.end
    pages = (max(0, size - region.offset) + PAGE - 1) // PAGE
    end = min(region.end, region.start + pages * PAGE)
    if end < region.end:
        raise CannotMigrate(pid=pid, reason=_("it maps {name} beyond its end").format(name=region.name))
    return end


class PageReader:
    """Reads ranges of a process in chunks. One object serves one thread."""

    def __init__(self, pid: int) -> None:
        self._memory = ProcessMemory(pid)
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close /proc/PID/mem."""
        os.close(self._file)

    def read_into(self, at: int, readable: bool, buffer: memoryview) -> None:
        """Fill `buffer`; pages that the process itself may not read come through /proc/PID/mem."""
        if readable:
            self._memory.read_into(at, buffer)
            return
        done = 0
        while done < len(buffer):
            count = os.preadv(self._file, [buffer[done:]], at + done)
            if count == 0:
                raise OSError(5, os.strerror(5), f"/proc/mem at {at + done:#x}")  # EIO
            done += count


def chunks(ranges: Iterable[Range]) -> Iterator[tuple[int, int, bool]]:
    """(address, length, readable) of pieces of at most `CHUNK` bytes."""
    for piece in ranges:
        for at in range(piece.start, piece.end, CHUNK):
            yield at, min(CHUNK, piece.end - at), piece.readable


def total(ranges: Iterable[Range]) -> int:
    """Bytes in all."""
    return sum(piece.end - piece.start for piece in ranges)


PAGE_HEADER = struct.Struct("<Q")  # address of what follows
