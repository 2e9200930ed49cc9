"""The protocol of /dev/fuse, as <linux/fuse.h> has it: numbers, flags and structures. No I/O.

Everything is the kernel's of Linux 6.18 (protocol 7.45); this side needs at least 7.31 (Linux 5.2). A request
is a `HEADER_IN`, the structure of its opcode, then names or data; a reply is a `HEADER_OUT` and the structure
of its opcode. Structures come as the `struct.Struct` that packs them and, for requests, as a named tuple with
the kernel's own field names (padding left out).
"""

from __future__ import annotations

import enum
import os
import struct
from typing import Final, NamedTuple

MAJOR: Final = 7  # FUSE_KERNEL_VERSION
MINOR: Final = 45  # FUSE_KERNEL_MINOR_VERSION: the newest that is known here
MINOR_NEEDED: Final = 31
ROOT_ID: Final = 1  # FUSE_ROOT_ID: the node of the mount's root
MIN_READ_BUFFER: Final = 8192  # FUSE_MIN_READ_BUFFER

# ioctls of the device: FUSE_DEV_IOC_BACKING_OPEN, _BACKING_CLOSE
IOC_BACKING_OPEN: Final = 0x4010E501  # _IOW(229, 1, struct fuse_backing_map)
IOC_BACKING_CLOSE: Final = 0x4004E502  # _IOW(229, 2, uint32_t)


class Opcode(enum.IntEnum):
    """enum fuse_opcode."""

    LOOKUP = 1
    FORGET = 2  # no reply
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36  # no reply
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42  # no reply
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class Notify(enum.IntEnum):
    """enum fuse_notify_code: what the server says unasked."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3


class Init(enum.IntFlag):
    """FUSE_* of INIT: what kernel and server can do; bits from 32 up travel in `flags2`."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41
    REQUEST_TIMEOUT = 1 << 42


class Fopen(enum.IntFlag):
    """FOPEN_*: how the kernel treats an open file."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6
    PASSTHROUGH = 1 << 7


class Fattr(enum.IntFlag):
    """FATTR_*: which fields of a SETATTR count."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


# Single flags of requests.
GETATTR_FH: Final = 1 << 0
LK_FLOCK: Final = 1 << 0
OPEN_KILL_SUIDGID: Final = 1 << 0
RELEASE_FLUSH: Final = 1 << 0
RELEASE_FLOCK_UNLOCK: Final = 1 << 1
WRITE_CACHE: Final = 1 << 0
WRITE_LOCKOWNER: Final = 1 << 1
WRITE_KILL_SUIDGID: Final = 1 << 2
FSYNC_FDATASYNC: Final = 1 << 0
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
EXT_GROUPS: Final = 32  # FUSE_EXT_GROUPS of enum fuse_ext_type

# struct fuse_in_header: len opcode unique nodeid uid gid pid total_extlen padding
HEADER_IN: Final = struct.Struct("<IIQQIIIHH")
# struct fuse_out_header: len error unique
HEADER_OUT: Final = struct.Struct("<IiQ")

# struct fuse_attr: ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev
# blksize flags
_ATTR: Final = "6Q10I"
ATTR: Final = struct.Struct(f"<{_ATTR}")
# struct fuse_entry_out: nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec attr
ENTRY_OUT: Final = struct.Struct(f"<4QII{_ATTR}")
# struct fuse_attr_out: attr_valid attr_valid_nsec dummy attr
ATTR_OUT: Final = struct.Struct(f"<QII{_ATTR}")
OPEN_OUT: Final = struct.Struct("<QIi")  # struct fuse_open_out: fh open_flags backing_id
WRITE_OUT: Final = struct.Struct("<I4x")
# struct fuse_kstatfs: blocks bfree bavail files ffree bsize namelen frsize padding spare[6]
STATFS_OUT: Final = struct.Struct("<5Q3I28x")
GETXATTR_OUT: Final = struct.Struct("<I4x")
LK_OUT: Final = struct.Struct("<QQII")
LSEEK_OUT: Final = struct.Struct("<Q")
COPY_FILE_RANGE_OUT: Final = struct.Struct("<Q")
# struct fuse_init_out: major minor max_readahead flags max_background congestion_threshold max_write
# time_gran max_pages map_alignment flags2 max_stack_depth request_timeout unused[11]
INIT_OUT: Final = struct.Struct("<IIIIHHIIHHIIH22x")
# struct fuse_dirent: ino off namelen type, then the name, padded to eight bytes
DIRENT: Final = struct.Struct("<QQII")
NOTIFY_INVAL_INODE_OUT: Final = struct.Struct("<Qqq")
NOTIFY_INVAL_ENTRY_OUT: Final = struct.Struct("<QII")
BACKING_MAP: Final = struct.Struct("<iIQ")  # struct fuse_backing_map: fd flags padding

FORGET_IN: Final = struct.Struct("<Q")
FORGET_ONE: Final = struct.Struct("<QQ")
BATCH_FORGET_IN: Final = struct.Struct("<II")
INTERRUPT_IN: Final = struct.Struct("<Q")
GETATTR_IN: Final = struct.Struct("<I4xQ")
MKNOD_IN: Final = struct.Struct("<III4x")
MKDIR_IN: Final = struct.Struct("<II")
RENAME_IN: Final = struct.Struct("<Q")
RENAME2_IN: Final = struct.Struct("<QI4x")
LINK_IN: Final = struct.Struct("<Q")
SETATTR_IN: Final = struct.Struct("<I4xQQQqqqIIII4xII4x")
OPEN_IN: Final = struct.Struct("<II")
CREATE_IN: Final = struct.Struct("<IIII")
READ_IN: Final = struct.Struct("<QQIIQI4x")
WRITE_IN: Final = struct.Struct("<QQIIQI4x")
RELEASE_IN: Final = struct.Struct("<QIIQ")
FLUSH_IN: Final = struct.Struct("<Q8xQ")
FSYNC_IN: Final = struct.Struct("<QI4x")
SETXATTR_IN: Final = struct.Struct("<III4x")  # the first eight bytes only without SETXATTR_EXT
SETXATTR_IN_COMPAT: Final = struct.Struct("<II")
GETXATTR_IN: Final = struct.Struct("<I4x")
LK_IN: Final = struct.Struct("<QQQQIII4x")
ACCESS_IN: Final = struct.Struct("<I4x")
FALLOCATE_IN: Final = struct.Struct("<QQQI4x")
LSEEK_IN: Final = struct.Struct("<QqI4x")
COPY_FILE_RANGE_IN: Final = struct.Struct("<QQQQQQQ")
INIT_IN: Final = struct.Struct("<IIII")  # then flags2 and 44 unused bytes, from 7.36 on
INIT_IN_EXT: Final = struct.Struct("<I")
IOCTL_IN: Final = struct.Struct("<QIIQII")
IOCTL_OUT: Final = struct.Struct("<iIII")
EXT_HEADER: Final = struct.Struct("<II")  # struct fuse_ext_header: size type


class SetattrIn(NamedTuple):
    """struct fuse_setattr_in; `valid` (Fattr) says which fields count; times: seconds and nanoseconds."""

    valid: int
    fh: int
    size: int
    lock_owner: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    uid: int
    gid: int


class ReadIn(NamedTuple):
    """struct fuse_read_in; for READDIR `offset` is the cookie after which to go on."""

    fh: int
    offset: int
    size: int
    read_flags: int
    lock_owner: int
    flags: int


class WriteIn(NamedTuple):
    """struct fuse_write_in; `flags` are those of the open file."""

    fh: int
    offset: int
    size: int
    write_flags: int
    lock_owner: int
    flags: int


class ReleaseIn(NamedTuple):
    """struct fuse_release_in."""

    fh: int
    flags: int
    release_flags: int
    lock_owner: int


class LockIn(NamedTuple):
    """struct fuse_lk_in; `end`: the last byte, 2**63-1 is "to the end"; `kind`: F_RDLCK, F_WRLCK, F_UNLCK."""

    fh: int
    owner: int
    start: int
    end: int
    kind: int
    pid: int
    lk_flags: int

    @property
    def is_flock(self) -> bool:
        """It is flock(2)'s, on the whole file, not fcntl(2)'s."""
        return bool(self.lk_flags & LK_FLOCK)


class FallocateIn(NamedTuple):
    """struct fuse_fallocate_in; mode: FALLOC_FL_* of <linux/falloc.h>."""

    fh: int
    offset: int
    length: int
    mode: int


class CopyIn(NamedTuple):
    """struct fuse_copy_file_range_in; the source is the request's own node."""

    fh_in: int
    off_in: int
    nodeid_out: int
    fh_out: int
    off_out: int
    length: int
    flags: int


class IoctlIn(NamedTuple):
    """struct fuse_ioctl_in; its data follows."""

    fh: int
    flags: int
    cmd: int
    arg: int
    in_size: int
    out_size: int


class Lock(NamedTuple):
    """struct fuse_file_lock."""

    start: int
    end: int
    kind: int
    pid: int


class Attributes(NamedTuple):
    """struct fuse_attr, times in nanoseconds since 1970, `rdev` as os.stat has it, `blocks` of 512 bytes."""

    ino: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int

    def packed(self) -> tuple[int, ...]:
        """The sixteen fields of struct fuse_attr; negative times (before 1970) in two's complement."""
        seconds_a, nano_a = divmod(self.atime_ns, 1_000_000_000)
        seconds_m, nano_m = divmod(self.mtime_ns, 1_000_000_000)
        seconds_c, nano_c = divmod(self.ctime_ns, 1_000_000_000)
        return (
            self.ino, self.size, self.blocks,
            seconds_a & _U64, seconds_m & _U64, seconds_c & _U64, nano_a, nano_m, nano_c,
            self.mode, self.nlink, self.uid, self.gid, device_to_wire(self.rdev), self.blksize, 0,
        )  # fmt: skip


_U64: Final = (1 << 64) - 1


def attributes_of(found: os.stat_result) -> Attributes:
    """What stat(2) says, for the wire."""
    return Attributes(
        found.st_ino, found.st_size, found.st_blocks,
        found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns,
        found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, found.st_blksize,
    )  # fmt: skip


class Entry(NamedTuple):
    """A name that was found or made: its node, a number that changes when the node number is used again."""

    node: int
    generation: int
    attributes: Attributes


class Opened(NamedTuple):
    """An open file: the server's handle, FOPEN_* flags, with PASSTHROUGH the id of the backing file."""

    fh: int
    flags: int = 0
    backing: int = 0


class StatFs(NamedTuple):
    """struct fuse_kstatfs; the first three counts in units of `frsize`."""

    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    bsize: int
    namelen: int
    frsize: int


def device_to_wire(device: int) -> int:
    """A device number as the protocol has it: new_encode_dev() of <linux/kdev_t.h>."""
    if not device:
        return 0
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12


def device_from_wire(device: int) -> int:
    """A device number as os.stat and os.mknod have it."""
    return os.makedev((device >> 8) & 0xFFF, (device & 0xFF) | (device >> 12) & 0xFFF00)
