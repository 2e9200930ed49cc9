"""What a guest's keeper has of home: the deputy, for calls of the keeper's own."""

from __future__ import annotations

from typing import Protocol

from omtools.migration.calls.model import Arena, Forward

_FADVISE64, _FSTAT = 221, 5  # <asm/unistd_64.h>
_DONTNEED = 4  # POSIX_FADV_DONTNEED, <linux/fadvise.h>
_STAT_SIZE = 144  # <asm/stat.h>
_Arguments = tuple[int, int, int, int, int, int]


class AtHome(Protocol):
    """The deputy, for calls that return at once."""

    arena: Arena

    def ask(self, forward: Forward) -> tuple[int, bytes]:
        """Make a call: its result, and what it gave back in memory."""
        ...


def plain(home: AtHome, nr: int, *numbers: int) -> int:
    """Have the deputy make a call without memory; its result."""
    a, b, c = (*numbers, 0, 0)[:3]
    return home.ask(Forward(nr, (a, b, c, 0, 0, 0), may_block=False))[0]


def refresh(home: AtHome, number: int) -> None:
    """Have the deputy forget what its kernel knows of the file of another node that it has as `number`.

    What sendfile(2) and splice(2) read, and where they see its end, is as old as the last look at it.
    """
    for nr, arguments in forgetting(number, home.arena.base):
        home.ask(Forward(nr, arguments, arena_length=_STAT_SIZE, may_block=False))


def forgetting(number: int, buffer: int) -> tuple[tuple[int, _Arguments], ...]:
    """The calls by which a process does so; `buffer` is an address of 144 bytes."""
    return (_FADVISE64, (number, 0, 0, _DONTNEED, 0, 0)), (_FSTAT, (number, buffer, 0, 0, 0, 0))
