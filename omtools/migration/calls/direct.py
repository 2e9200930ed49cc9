"""What a call means for descriptors that are open where the process runs (DFSA), pure.

Such a *direct* descriptor has the same number at home, where the deputy holds a placeholder of the same file.
Data is moved by the node's own kernel; what concerns the descriptor as such is done at home and followed
here; what needs the file's position at home gets it there first, and brings it back.
"""

from __future__ import annotations

import fcntl
from collections.abc import Container
from dataclasses import dataclass

from omtools.migration.counts import FileIo

_F_DUPFD_CLOEXEC = 1030  # <linux/fcntl.h>
# <linux/fcntl.h>: the last three are F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
_LOCK_COMMANDS = frozenset({fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW, 36, 37, 38})
_WHOLE_RANGE = 0xFFFFFFFF
_CLOSE_RANGE_CLOEXEC = 4  # <linux/close_range.h>


@dataclass(frozen=True, slots=True)
class Native:
    """The node's own kernel does it."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The deputy does it, with these descriptors' positions before and after."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """The deputy does it, with this descriptor's position before."""

    number: int


@dataclass(frozen=True, slots=True)
class Duplicated:
    """The deputy does it; the result is another number for `source`, or for a file of its own (-1).

    Attributes:
        source: a direct descriptor, or -1.
        replaces: the number that the result takes over, if the caller chose it.
    """

    source: int
    replaces: int = -1


@dataclass(frozen=True, slots=True)
class Closed:
    """The deputy does it, then the node's own kernel too: these numbers, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Followed:
    """The deputy does it, and if that went well the node's own kernel too."""


@dataclass(frozen=True, slots=True)
class GivenAway:
    """Somebody else may get the descriptor: all become the deputy's again."""


def moved(nr: int, result: int, node: int) -> FileIo | None:
    """What a call that is over has read or written of that node's, None if it is of another kind."""
    if nr in READS:
        return FileIo(node, "", max(result, 0), 0, 1)
    return FileIo(node, "", 0, max(result, 0), 1) if nr in WRITES else None


Touch = Native | Synced | Placed | Duplicated | Closed | Followed | GivenAway

# <asm/unistd_64.h>: calls that move data or concern the data alone; the descriptor is the first argument.
DATA = frozenset({
    0,    # read
    1,    # write
    8,    # lseek
    17,   # pread64
    18,   # pwrite64
    19,   # readv
    20,   # writev
    74,   # fsync
    75,   # fdatasync
    77,   # ftruncate
    187,  # readahead
    221,  # fadvise64
    277,  # sync_file_range
    285,  # fallocate
    295,  # preadv
    296,  # pwritev
    327,  # preadv2
    328,  # pwritev2
})  # fmt: skip
READS = frozenset({0, 17, 19, 295, 327})  # of these: read, pread64, readv, preadv, preadv2
WRITES = frozenset({1, 18, 20, 296, 328})  # write, pwrite64, writev, pwritev, pwritev2
PREAD, PWRITE = 17, 18
# Calls with two descriptors whose positions may move.
_BETWEEN = {40: (0, 1), 275: (0, 2), 326: (0, 2)}  # sendfile, splice, copy_file_range
_CLOSE, _DUP, _DUP2, _DUP3, _FCNTL, _IOCTL, _CLOSE_RANGE = 3, 32, 33, 292, 72, 16, 436
_SENDMSG, _SENDMMSG = 46, 307
_CONCERNED = DATA | _BETWEEN.keys() | {
    _CLOSE, _DUP, _DUP2, _DUP3, _FCNTL, _IOCTL, _CLOSE_RANGE, _SENDMSG, _SENDMMSG,
}  # fmt: skip


def touch(  # noqa: PLR0911 - one return for each kind
    nr: int, args: tuple[int, ...], direct: Container[int]
) -> Touch | None:
    """What call `nr` means if the descriptors `direct` are direct; None: nothing, plan it as usual."""
    if nr not in _CONCERNED:
        return None
    first = _number(args[0])
    if nr in DATA:
        return Native() if first in direct else None
    if nr in _BETWEEN:
        return _between([_number(args[index]) for index in _BETWEEN[nr]], direct)
    if nr in (_DUP2, _DUP3):
        return _onto(first, _number(args[1]), direct)
    if nr == _CLOSE_RANGE:
        marks_only = args[2] & _CLOSE_RANGE_CLOEXEC
        return None if marks_only else Closed(args[0] & _WHOLE_RANGE, args[1] & _WHOLE_RANGE)
    if nr in (_SENDMSG, _SENDMMSG):
        return GivenAway()
    if first not in direct:
        return None
    if nr == _CLOSE:
        return Closed(first, first)
    if nr == _DUP:
        return Duplicated(first)
    if nr == _IOCTL:
        return Synced((first,))
    return _control(first, args[1])


def _number(argument: int) -> int:
    """A descriptor, as the kernel takes it: an int."""
    value = argument & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _between(numbers: list[int], direct: Container[int]) -> Touch | None:
    found = tuple(number for number in numbers if number in direct)
    if len(found) == len(numbers):
        return Native()
    return Synced(found) if found else None


def _onto(source: int, target: int, direct: Container[int]) -> Touch | None:
    if source == target:
        return None
    if source in direct:
        return Duplicated(source, target)
    return Duplicated(-1, target) if target in direct else None


def _control(number: int, command: int) -> Touch | None:
    if command in (fcntl.F_DUPFD, _F_DUPFD_CLOEXEC):
        return Duplicated(number)
    if command in _LOCK_COMMANDS:  # they may speak of a range from the position on, as lockf(3) does
        return Placed(number)
    return Followed() if command == fcntl.F_SETFL else None
