"""Files that are open where their process runs, not through the deputy (DFSA): a guest's keeper's part.

The keeper has a copy of every such descriptor: the same open file, and so the same position.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import structs

from omtools.image.model import OpenFile
from omtools.linux.names import is_text
from omtools.migration.calls.direct import PREAD, PWRITE, READS, WRITES
from omtools.migration.places import Place, cluster_inode, locate, open_place
from omtools.migration.reach import Reach

# What of a file's flags is asked for again: <asm-generic/fcntl.h>.
_LASTING = (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_DSYNC | os.O_SYNC | os.O_DIRECT | os.O_NOATIME
            | os.O_LARGEFILE)  # fmt: skip


@dataclass(slots=True)
class DirectFile:
    """One open file.

    Attributes:
        descriptor: the keeper's own.
        opened: what home says of it.
        node: whose file it is.
        numbers: the process's descriptors.
        reads: how often the keeper saw it being read since it looked last.
        writes: or written.
        wanted: bytes that these calls asked for at positions of their own.
    """

    descriptor: int
    opened: OpenFile
    node: int
    numbers: set[int] = field(default_factory=set)
    reads: int = 0
    writes: int = 0
    wanted: int = 0

    def note(self, nr: int, args: tuple[int, ...]) -> None:
        """The node's kernel is about to do a call about it."""
        self.reads += nr in READS
        self.writes += nr in WRITES
        if nr in (PREAD, PWRITE):
            self.wanted += args[2]

    @property
    def position(self) -> int:
        """Where the next read or write begins."""
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    @position.setter
    def position(self, offset: int) -> None:
        os.lseek(self.descriptor, offset, os.SEEK_SET)


class DirectFiles:
    """The direct files of one guest, by its descriptors.

    Attributes:
        reach: where files are looked for.
        home: number of its home node.
        here: number of this node.
        apart: files (device and inode here) that are the deputy's, whoever opens them.
        all_apart: every file is.
        copies: descriptors of which home has a copy: what is written here is not there.
    """

    def __init__(self, reach: Reach, home: int, here: int) -> None:
        self.reach, self.home, self.here = reach, home, here
        self._files: dict[int, DirectFile] = {}
        self.apart: set[tuple[int, int]] = set()
        self.all_apart = False
        self.copies: set[int] = set()

    def __contains__(self, number: object) -> bool:
        return number in self._files

    def __getitem__(self, number: int) -> DirectFile:
        return self._files[number]

    def __bool__(self) -> bool:
        return bool(self._files)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._files))

    def all(self) -> list[DirectFile]:
        """Each once, whatever numbers it has."""
        return list({id(file): file for file in self._files.values()}.values())

    def open(self, opened: OpenFile) -> DirectFile | None:
        """Open the same file here, None if that cannot be; it has no numbers yet."""
        place = locate(opened.path, self.reach, self.home, self.here)
        if place is None or (opened.flags & os.O_ACCMODE != os.O_RDONLY and not place.writable):
            return None
        try:
            descriptor = open_place(place, opened.flags & _LASTING)
        except OSError:
            return None
        try:
            same = self._same(descriptor, opened, place)
        except OSError:  # its node is down by now
            same = False
        if not same:
            os.close(descriptor)
            return None
        return DirectFile(descriptor, opened, place.node)

    def _same(self, descriptor: int, opened: OpenFile, place: Place) -> bool:
        """It is that file, no other that has got its name meanwhile, and not set apart.

        On either side it may have been seen by the cluster's file system, which has its own numbers.
        """
        status = os.fstat(descriptor)
        here = {status.st_ino, cluster_inode(place.node, status.st_dev, status.st_ino)}
        told = {opened.inode, cluster_inode(self.home, opened.device, opened.inode)}
        if self.all_apart or (status.st_dev, status.st_ino) in self.apart:
            return False
        return stat.S_ISREG(status.st_mode) and bool(here & told)

    def put(self, number: int, file: DirectFile) -> None:
        """The process has the file as `number`; what it had there before is gone."""
        if self._files.get(number) is not file:
            self.drop(number)
        file.numbers.add(number)
        self._files[number] = file

    def drop(self, number: int) -> None:
        """The process has closed the descriptor, or has another file there."""
        self.copies.discard(number)
        file = self._files.pop(number, None)
        if file is not None:
            file.numbers.discard(number)
            if not file.numbers:
                os.close(file.descriptor)

    def within(self, first: int, last: int) -> list[int]:
        """The direct descriptors in that range, both ends included."""
        return [number for number in self if first <= number <= last]

    def leaving(self) -> list[OpenFile]:
        """All of them, for an image; one whose name cannot be told is opened nowhere else."""
        return [
            structs.replace(
                file.opened, numbers=tuple(sorted(file.numbers)), position=file.position, direct=True,
                path=file.opened.path if is_text(file.opened.path) else "",
            )
            for file in self.all()
        ]  # fmt: skip

    def close(self) -> None:
        """The guest is gone."""
        for number in list(self._files):
            self.drop(number)


