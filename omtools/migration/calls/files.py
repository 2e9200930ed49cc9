"""Calls about files, directories, descriptors, pipes and events: the deputy has them all.

Sizes are those of x86-64; each names the kernel header of its structure.
"""

from __future__ import annotations

from errno import EINVAL

from omtools.migration.calls.commands import FCNTL, IOCTL
from omtools.migration.calls.model import OutRule
from omtools.migration.calls.polls import Events, FdSets, MaskArgument
from omtools.migration.calls.shapes import (
    PATH_MAX,
    XATTR_SIZE_MAX,
    Arg,
    Deadline,
    Field,
    InBytes,
    InOutBytes,
    Iovec,
    Milliseconds,
    OutBytes,
    Text,
    attribute_name,
)
from omtools.migration.calls.spec import Spec, Switch, at_once, forward
from omtools.migration.calls.structures import AttributeArguments

RET = OutRule.RET

STAT = 144         # asm/stat.h
STATX = 256        # linux/stat.h
STATFS = 120       # asm-generic/statfs.h
USTAT = 32         # linux/types.h
POLLFD = 8         # asm-generic/poll.h
EPOLL_EVENT = 12   # linux/eventpoll.h, packed
SIGSET = 8         # asm/signal.h, sigset_t of the kernel
ITIMERSPEC = 32    # linux/time.h
TIMES = 32         # two struct timeval or timespec, linux/time.h
UTIMBUF = 16       # linux/utime.h
CACHESTAT_RANGE = 16  # linux/mman.h
CACHESTAT = 40        # linux/mman.h
MAX_FDS = 1 << 20  # fs/file.c, sysctl_nr_open: poll refuses more

LOCK_NB = 4        # asm-generic/fcntl.h


def path(arg: int) -> Text:
    """A file name."""
    return Text(arg, PATH_MAX)


def offset(arg: int) -> InOutBytes:
    """A loff_t that the kernel moves on."""
    return InOutBytes(arg, 8)


def events(arg: int, count: int) -> InOutBytes:
    """An array of struct pollfd."""
    return InOutBytes(arg, Arg(count, POLLFD, wide=False, limit=MAX_FDS, over=EINVAL))


def _handle(mount: int) -> Spec:
    """name_to_handle_at: the mount's id is an int, or 64 bits with AT_HANDLE_MNT_ID_UNIQUE (1).

    struct file_handle (linux/fcntl.h): handle_bytes, handle_type, then that many bytes, at most 128; with
    EOVERFLOW the kernel says how many it wants.
    """
    handle = InOutBytes(2, Field(2, 0, base=8, limit=128), OutRule.ALWAYS)
    return at_once(path(1), handle, InOutBytes(3, mount, OutRule.ALWAYS))


READING: dict[int, tuple[str, Spec]] = {
    0: ("read", forward(OutBytes(1, Arg(2), RET))),
    1: ("write", forward(InBytes(1, Arg(2)))),
    8: ("lseek", at_once()),
    17: ("pread64", forward(OutBytes(1, Arg(2), RET))),
    18: ("pwrite64", forward(InBytes(1, Arg(2)))),
    19: ("readv", forward(Iovec(1, 2, out=True))),
    20: ("writev", forward(Iovec(1, 2, out=False))),
    295: ("preadv", forward(Iovec(1, 2, out=True))),
    296: ("pwritev", forward(Iovec(1, 2, out=False))),
    327: ("preadv2", forward(Iovec(1, 2, out=True))),
    328: ("pwritev2", forward(Iovec(1, 2, out=False))),
    40: ("sendfile", forward(offset(2))),
    275: ("splice", forward(offset(1), offset(3))),
    276: ("tee", forward()),
    326: ("copy_file_range", forward(offset(1), offset(3))),
    187: ("readahead", forward()),
    221: ("fadvise64", at_once()),
    74: ("fsync", forward()),
    75: ("fdatasync", forward()),
    162: ("sync", forward()),
    277: ("sync_file_range", forward()),
    306: ("syncfs", forward()),
    285: ("fallocate", forward()),
    76: ("truncate", forward(path(0))),
    77: ("ftruncate", forward()),
    451: ("cachestat", at_once(InBytes(1, CACHESTAT_RANGE), OutBytes(2, CACHESTAT))),
}

DESCRIPTORS: dict[int, tuple[str, Spec]] = {
    # A FIFO's or a terminal's open waits for the other side.
    2: ("open", forward(path(0), opens=True)),
    85: ("creat", forward(path(0), opens=True)),
    257: ("openat", forward(path(1), opens=True)),
    # struct open_how (linux/openat2.h) is as long as argument 3 says; the kernel refuses more than a page
    437: ("openat2", forward(path(1), InBytes(2, Arg(3, limit=4096)), opens=True)),
    # close may wait for a lingering socket or a terminal that drains
    3: ("close", forward()),
    436: ("close_range", forward()),
    32: ("dup", at_once()),
    33: ("dup2", forward()),
    292: ("dup3", forward()),
    72: ("fcntl", FCNTL),
    16: ("ioctl", IOCTL),
    73: ("flock", forward(quick=(1, LOCK_NB))),
    22: ("pipe", at_once(OutBytes(0, 8))),
    293: ("pipe2", at_once(OutBytes(0, 8))),
    284: ("eventfd", at_once()),
    290: ("eventfd2", at_once()),
    319: ("memfd_create", at_once(Text(0, 250, 22))),  # mm/memfd.c: 249 bytes and the NUL, else EINVAL
    447: ("memfd_secret", at_once()),
    253: ("inotify_init", at_once()),
    294: ("inotify_init1", at_once()),
    254: ("inotify_add_watch", at_once(path(1))),
    255: ("inotify_rm_watch", at_once()),
    283: ("timerfd_create", at_once()),
    286: ("timerfd_settime", at_once(InBytes(2, ITIMERSPEC), OutBytes(3, ITIMERSPEC))),
    287: ("timerfd_gettime", at_once(OutBytes(1, ITIMERSPEC))),
    213: ("epoll_create", at_once()),
    291: ("epoll_create1", at_once()),
    # the event is looked at for ADD (1) and MOD (3), not for DEL (2): linux/eventpoll.h
    233: ("epoll_ctl", at_once(InBytes(3, EPOLL_EVENT, when=(1, 1)))),
    232: ("epoll_wait", forward(Events(), Milliseconds(3))),
    281: ("epoll_pwait", forward(InBytes(4, SIGSET), Events(), Milliseconds(3))),
    441: ("epoll_pwait2", forward(Deadline(3), InBytes(4, SIGSET), Events())),
    7: ("poll", forward(events(0, 1), Milliseconds(2))),
    271: ("ppoll", forward(events(0, 1), Deadline(2, 1, OutRule.ALWAYS), InBytes(3, SIGSET))),
    23: ("select", forward(FdSets(), Deadline(4, 1000, OutRule.ALWAYS))),
    270: ("pselect6", forward(FdSets(), Deadline(4, 1, OutRule.ALWAYS), MaskArgument(5))),
}

NAMES: dict[int, tuple[str, Spec]] = {
    4: ("stat", at_once(path(0), OutBytes(1, STAT))),
    5: ("fstat", at_once(OutBytes(1, STAT))),
    6: ("lstat", at_once(path(0), OutBytes(1, STAT))),
    262: ("newfstatat", at_once(path(1), OutBytes(2, STAT))),
    332: ("statx", at_once(path(1), OutBytes(4, STATX))),
    136: ("ustat", at_once(OutBytes(1, USTAT))),
    137: ("statfs", at_once(path(0), OutBytes(1, STATFS))),
    138: ("fstatfs", at_once(OutBytes(1, STATFS))),
    21: ("access", at_once(path(0))),
    269: ("faccessat", at_once(path(1))),
    439: ("faccessat2", at_once(path(1))),
    78: ("getdents", at_once(OutBytes(1, Arg(2, wide=False), RET))),
    217: ("getdents64", at_once(OutBytes(1, Arg(2, wide=False), RET))),
    79: ("getcwd", at_once(OutBytes(0, Arg(1, limit=PATH_MAX), RET))),
    80: ("chdir", at_once(path(0))),
    81: ("fchdir", at_once()),
    82: ("rename", at_once(path(0), path(1))),
    264: ("renameat", at_once(path(1), path(3))),
    316: ("renameat2", at_once(path(1), path(3))),
    83: ("mkdir", at_once(path(0))),
    258: ("mkdirat", at_once(path(1))),
    84: ("rmdir", at_once(path(0))),
    86: ("link", at_once(path(0), path(1))),
    265: ("linkat", at_once(path(1), path(3))),
    87: ("unlink", at_once(path(0))),
    263: ("unlinkat", at_once(path(1))),
    88: ("symlink", at_once(path(0), path(1))),
    266: ("symlinkat", at_once(path(0), path(2))),
    89: ("readlink", at_once(path(0), OutBytes(1, Arg(2, wide=False, limit=PATH_MAX), RET))),
    267: ("readlinkat", at_once(path(1), OutBytes(2, Arg(3, wide=False, limit=PATH_MAX), RET))),
    90: ("chmod", at_once(path(0))),
    91: ("fchmod", at_once()),
    268: ("fchmodat", at_once(path(1))),
    452: ("fchmodat2", at_once(path(1))),
    92: ("chown", at_once(path(0))),
    93: ("fchown", at_once()),
    94: ("lchown", at_once(path(0))),
    260: ("fchownat", at_once(path(1))),
    95: ("umask", at_once()),
    133: ("mknod", at_once(path(0))),
    259: ("mknodat", at_once(path(1))),
    132: ("utime", at_once(path(0), InBytes(1, UTIMBUF))),
    235: ("utimes", at_once(path(0), InBytes(1, TIMES))),
    261: ("futimesat", at_once(path(1), InBytes(2, TIMES))),
    280: ("utimensat", at_once(path(1), InBytes(2, TIMES))),
    303: ("name_to_handle_at", Switch(lambda args: args[4] & 1, {1: _handle(8)}, _handle(4))),
    304: ("open_by_handle_at", forward(InBytes(1, Field(1, 0, base=8, limit=128)))),
    # struct file_attr (linux/fs.h) as long as argument 3 says; more than a page is E2BIG
    468: ("file_getattr", at_once(path(1), OutBytes(2, Arg(3, limit=4096)))),
    469: ("file_setattr", at_once(path(1), InBytes(2, Arg(3, limit=4096)))),
}


def _value_in(arg: int, size: int) -> InBytes:
    return InBytes(arg, Arg(size, limit=XATTR_SIZE_MAX))


def _value_out(arg: int, size: int) -> OutBytes:
    return OutBytes(arg, Arg(size, limit=XATTR_SIZE_MAX), RET)


ATTRIBUTES: dict[int, tuple[str, Spec]] = {
    188: ("setxattr", at_once(path(0), attribute_name(1), _value_in(2, 3))),
    189: ("lsetxattr", at_once(path(0), attribute_name(1), _value_in(2, 3))),
    190: ("fsetxattr", at_once(attribute_name(1), _value_in(2, 3))),
    191: ("getxattr", at_once(path(0), attribute_name(1), _value_out(2, 3))),
    192: ("lgetxattr", at_once(path(0), attribute_name(1), _value_out(2, 3))),
    193: ("fgetxattr", at_once(attribute_name(1), _value_out(2, 3))),
    194: ("listxattr", at_once(path(0), _value_out(1, 2))),
    195: ("llistxattr", at_once(path(0), _value_out(1, 2))),
    196: ("flistxattr", at_once(_value_out(1, 2))),
    197: ("removexattr", at_once(path(0), attribute_name(1))),
    198: ("lremovexattr", at_once(path(0), attribute_name(1))),
    199: ("fremovexattr", at_once(attribute_name(1))),
    463: ("setxattrat", at_once(path(1), attribute_name(3), AttributeArguments(4, 5, out=False))),
    464: ("getxattrat", at_once(path(1), attribute_name(3), AttributeArguments(4, 5, out=True))),
    465: ("listxattrat", at_once(path(1), _value_out(3, 4))),
    466: ("removexattrat", at_once(path(1), attribute_name(3))),
}
