"""What a process that is away reads and writes, as its home knows it: by its deputy, and where it runs."""

from __future__ import annotations

import os
import stat

from omtools.migration.calls.direct import moved
from omtools.migration.counts import FileIo, Ledger, named, sum_of
from omtools.migration.places import owner
from omtools.migration.reach import Reach

_CHANGE_NUMBERS = frozenset({3, 33, 292, 436})  # close, dup2, dup3, close_range: <asm/unistd_64.h>


class DeputyCounts:
    """The books of one process.

    What the deputy does is counted call by call: `read` and its kin by descriptor, whose file is looked up
    once. Pipes, sockets and terminals count as home's, without a name.
    """

    def __init__(self, pid: int, home: int, files: Reach) -> None:
        """`files` tells where all nodes' files are at home."""
        self._pid, self._home, self._reach = pid, home, files
        self._names: dict[int, tuple[int, str]] = {}  # whose file a descriptor is, and its path
        self._deputy = Ledger()
        self._before: list[FileIo] = []
        self._there: list[FileIo] = []

    def call(self, nr: int, args: list[int], result: int) -> None:
        """The deputy has done a call."""
        if nr in _CHANGE_NUMBERS:
            self._names.clear()
        elif (one := moved(nr, result, self._home)) is not None:
            number = args[0] & 0xFFFFFFFF
            if number not in self._names:
                self._names[number] = self._named(number)
            node, path = self._names[number]
            self._deputy.add(FileIo(node, path, one.read, one.written, one.calls))

    def _named(self, number: int) -> tuple[int, str]:
        link = f"/proc/{self._pid}/fd/{number}"
        try:
            if not stat.S_ISREG(os.stat(link).st_mode):
                return self._home, ""
            path = os.readlink(link)
        except OSError:
            return self._home, ""
        return owner(path, self._reach, self._home)[0] or self._home, named(path)

    def heard(self, there: list[FileIo]) -> None:
        """What it has read and written so far where it is now."""
        self._there = there

    def new_place(self) -> None:
        """It is on another node now, which begins to count."""
        self._before, self._there = sum_of(self._before, self._there), []

    @property
    def there(self) -> int:
        """Bytes that it has read and written where it ran."""
        return sum(one.bytes for one in (*self._before, *self._there))

    def told(self) -> list[FileIo]:
        """All since it left home."""
        return sum_of(self._before, self._there, self._deputy.told())
