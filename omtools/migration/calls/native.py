"""What the filter lets through of a guest that opens its node's files by itself (DFSA), pure.

Its descriptors have the numbers that they would have at home, so where a file of home must not be touched,
either the number tells (those that were open when it came) or a stand-in does, see `image.cage_root`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Mapping

from omtools.linux.seccomp import Rule
from omtools.migration.calls.direct import DATA
from omtools.migration.calls.model import Fault, Memory

_NUMBER = 0xFFFFFFFF  # a descriptor is an int
_HERE = 0xFFFFFF9C  # AT_FDCWD of <linux/fcntl.h>, as the int that it is
_NO_NUMBER = 0xFFFFFFFF
_NOT_PLAIN = os.O_PATH | os.O_DIRECTORY | getattr(os, "O_ASYNC", 0o20000)  # O_TMPFILE has O_DIRECTORY in it

CLOSE, LSEEK, FSTAT, IOCTL, FCNTL, UMASK, CHDIR, FCHDIR = 3, 8, 5, 16, 72, 95, 80, 81  # <asm/unistd_64.h>
STAT, LSTAT, NEWFSTATAT = 4, 6, 262  # likewise
RECVMSG, RECVMMSG, CLOSE_RANGE, _SENDMSG = 47, 299, 436, 46  # likewise
_FLOCK = 73  # likewise
_LOCKS = frozenset({fcntl.F_SETLK, fcntl.F_SETLKW, 37, 38})  # F_OFD_SETLK, F_OFD_SETLKW of <linux/fcntl.h>
_OPENAT, _OPENAT2, _PIPE, _PIPE2, _SOCKETPAIR = 257, 437, 22, 293, 53  # likewise

# <asm/unistd_64.h>: what the kernel does with a stand-in without asking its server (lseek, readahead,
# fadvise64, sync_file_range), or with flags of which that learns nothing (preadv2, pwritev2).
_NOT_AT_A_STAND_IN = frozenset({LSEEK, 187, 221, 277, 327, 328})
_LET_THROUGH = (DATA - _NOT_AT_A_STAND_IN) | {CLOSE}
# <asm/unistd_64.h>: every path leads to the node's own tree, or to the keeper.
_PATHS: Mapping[int, tuple[Rule, ...]] = {
    2: (((1, _NOT_PLAIN, 0),),),                                # open
    85: ((),),                                                  # creat
    _OPENAT: (((0, _NUMBER, _HERE), (2, _NOT_PLAIN, 0)),),
    76: ((),),                                                  # truncate
    82: ((),),                                                  # rename
    83: ((),),                                                  # mkdir
    84: ((),),                                                  # rmdir
    86: ((),),                                                  # link
    87: ((),),                                                  # unlink
    88: ((),),                                                  # symlink
    90: ((),),                                                  # chmod
    258: (((0, _NUMBER, _HERE),),),                             # mkdirat
    263: (((0, _NUMBER, _HERE),),),                             # unlinkat
    264: (((0, _NUMBER, _HERE), (2, _NUMBER, _HERE)),),         # renameat
    316: (((0, _NUMBER, _HERE), (2, _NUMBER, _HERE)),),         # renameat2
}  # fmt: skip
# <asm/unistd_64.h>: the result is a new descriptor.
_MAKES_ONE = frozenset({
    2, 85, _OPENAT, _OPENAT2,   # open, creat
    32, 33, 292,                # dup, dup2, dup3
    41, 43, 288,                # socket, accept, accept4
    213, 291,                   # epoll_create, epoll_create1
    253, 294,                   # inotify_init, inotify_init1
    282, 289,                   # signalfd, signalfd4
    283, 284, 290,              # timerfd_create, eventfd, eventfd2
    240, 298, 300,              # mq_open, perf_event_open, fanotify_init
    304, 319, 323,              # open_by_handle_at, memfd_create, userfaultfd
    425, 434, 438, 447,         # io_uring_setup, pidfd_open, pidfd_getfd, memfd_secret
})  # fmt: skip
# Calls of which at most the first argument is a descriptor: those that programs make most.
_FIRST_ONLY = frozenset({
    *DATA, CLOSE, FSTAT, IOCTL, 73, 91, 93, 138, 217, 78, 44, 45, 48, 49, 50, 51, 52, 54, 55, 42, 232, 281,
    190, 193, 196, 199, 286, 287, FCHDIR, 306, _OPENAT, _OPENAT2, 258, 259, 260, 261,
    262, 263, 267, 268, 269, 280, 332, 439, 452, 254, 255,
})  # fmt: skip
# Calls without any descriptor, or with one that the kernel alone knows.
_NONE = frozenset({
    4, 6, 21, 76, 79, 80, 82, 83, 84, 86, 87, 88, 89, 90, 92, 94, 95, 132, 133, 137, 235, 188, 189, 191, 192,
    194, 195, 197, 198, 24, 28, 34, 35, 36, 37, 38, 39, 61, 62, 63, 96, 97, 98, 99, 100, 102, 104, 107, 108,
    109, 110, 111, 112, 115, 118, 120, 121, 124, 127, 128, 129, 130, 131, 140, 141, 142, 143, 144, 145, 146,
    147, 148, 157, 160, 186, 200, 201, 203, 204, 218, 222, 223, 224, 225, 226, 227, 228, 229, 230, 231, 234,
    302, 309, 318, 13, 14, 15, 60,
})  # fmt: skip


# <asm/unistd_64.h>: of other calls those whose descriptors with content are known: at which arguments.
_CONTENT: Mapping[int, tuple[int, ...]] = {
    7: (), 271: (), 23: (), 270: (), 233: (),       # poll, ppoll, select, pselect6, epoll_ctl: none
    CLOSE_RANGE: (), 32: (0,), 33: (0,), 292: (0,),  # dup, dup2, dup3
    40: (0, 1), 275: (0, 2), 326: (0, 2),           # sendfile, splice, copy_file_range
    9: (), 56: (), 57: (), 58: (), 435: (), 59: (), 322: (),  # mmap, clone, fork, vfork, exec: it comes home
    _PIPE: (), _PIPE2: (), _SOCKETPAIR: (), 41: (),  # socket
    213: (), 291: (), 253: (), 294: (), 282: (0,), 289: (0,), 283: (), 284: (), 290: (),  # epoll to eventfd
}  # fmt: skip


def rules(trapped: Collection[int]) -> tuple[dict[int, tuple[Rule, ...]], dict[int, tuple[Rule, ...]]]:
    """For `seccomp.compile_filter`: calls allowed by rules, and calls allowed but for rules.

    Args:
        trapped: descriptors that are the home's, whatever is done with them.
    """
    numbers: tuple[Rule, ...] = tuple(((0, _NUMBER, number),) for number in (*sorted(trapped), _NO_NUMBER))
    return dict(_PATHS), dict.fromkeys(_LET_THROUGH, numbers)


def makes_descriptors(nr: int, args: tuple[int, ...]) -> bool:
    """A call that, done at home, takes numbers there that must be free here too."""
    if nr == FCNTL:
        return args[1] in (fcntl.F_DUPFD, 1030)  # F_DUPFD_CLOEXEC, <linux/fcntl.h>
    return nr in _MAKES_ONE or nr in (_PIPE, _PIPE2, _SOCKETPAIR)


def made(nr: int, args: tuple[int, ...], result: int, written: bytes) -> list[int]:
    """The descriptors that a successful call has made; `written` is what it gave back in memory."""
    if nr in (_PIPE, _PIPE2, _SOCKETPAIR):
        return [int.from_bytes(written[at : at + 4], "little") for at in (0, 4)] if len(written) >= 8 else []
    return [result] if makes_descriptors(nr, args) else []


def names_one(nr: int, args: tuple[int, ...]) -> int | None:
    """The only descriptor that the call may be about, -1 if there is none; None: it may be about many."""
    if nr in _FIRST_ONLY or nr == FCNTL:
        value = args[0] & _NUMBER
        return value - (1 << 32) if value >> 31 else value
    return -1 if nr in _NONE or nr in (2, 85) else None


def uses_content(
    nr: int, args: tuple[int, ...], numbers: Collection[int], memory: Memory
) -> set[int]:
    """Which of these descriptors' files the call, done at home, reads, writes or gives a new descriptor.

    For calls of which `names_one` does not know. A process that comes home for its call brings its files.
    """
    at = _CONTENT.get(nr)
    if nr == _SENDMSG and not has_control(args, memory):
        at = (0,)
    return set(numbers) if at is None else {args[index] & _NUMBER for index in at} & set(numbers)


def has_control(args: tuple[int, ...], memory: Memory) -> bool:
    """Something goes with a message: msg_controllen is the sixth word of struct msghdr, <linux/socket.h>."""
    try:
        return any(memory.read(args[1] + 40, 8))
    except (OSError, OverflowError, Fault):
        return False


def takes_lock(nr: int, args: tuple[int, ...], memory: Memory) -> bool:
    """The call locks a file, or a part of it: closing a descriptor may end that."""
    if nr == _FLOCK:
        return not args[1] & fcntl.LOCK_UN
    if nr != FCNTL or args[1] not in _LOCKS:
        return False
    try:  # struct flock begins with its type, <linux/fcntl.h>
        return int.from_bytes(memory.read(args[2], 2), "little") != fcntl.F_UNLCK
    except Fault:
        return False


def local(nr: int, args: tuple[int, ...]) -> bool:
    """The node's own kernel does it for a file that was opened here."""
    if nr == FCNTL:
        return args[1] in (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL)
    return nr in DATA or nr in (CLOSE, IOCTL)
