"""The contract of oMFS: what a served file system does, handle by handle.

The model is that of the kernel's low-level FUSE, of NFS and of virtiofsd, not that of paths: a *node* is an
integer that stands for one inode (the top is `ROOT`), an open *file* or directory is another. So a file that
is unlinked while open, a directory that is renamed under somebody's feet and a deleted working directory stay
what they are on one machine.

Rules that hold for every operation of `Files`:

* What goes wrong is an OSError with the errno that the same system call would have given on the owner's
  machine, and further: ESTALE (the node is no more: looked up again it may be another), EHOSTDOWN (its
  machine does not answer), ETIMEDOUT (it stopped answering), EIO (it was lost in the middle of this).
* Names are bytes: 1 to 255 of them, without "/" and NUL. "." and ".." are not names (EINVAL).
* A node that an operation returns in an `Entry` counts as looked up once more; `forget` gives back counts.
  Node numbers are never used again. The root needs no lookup and is never forgotten.
* Operations on names and nodes take the `Caller` first; those on open files do not.
* All operations may be called from several threads at once. Only `setlk` and `flock` with `wait` stay away
  for long; they block the calling thread alone, and another thread may break them off (`Interrupt`).
* Whoever serves several users has one `Files` for each of them: the process behind it has that user's rights.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

ROOT = 1
"""The node at the top."""

NAME_MAX = 255  # linux/limits.h
MAX_TRANSFER = 1 << 20
"""Bytes that one read or write carries at most; more is cut short, as read(2) and write(2) may."""

MAX_OFFSET = (1 << 63) - 1
"""As the end of a `Lock`: to the end of the file, wherever that will be (OFFSET_MAX of linux/fs.h)."""

MAX_TIME = (1 << 63) - 1
"""The farthest time, and with a minus the earliest, in nanoseconds since 1970 (the years 2262 and 1677).

Others are brought there, as Linux does for file systems that cannot hold them."""

UTIME_NOW = (1 << 30) - 1
"""As a time of `Changes`: the server's present (linux/stat.h). As nanoseconds since 1970 nobody means it."""


def near_time(nanoseconds: int) -> int:
    """The nearest time there is."""
    return max(-MAX_TIME, min(nanoseconds, MAX_TIME))


Buffer: TypeAlias = bytes | bytearray | memoryview


class Caller(NamedTuple):
    """On whose behalf an operation is done.

    Attributes:
        pid: the asking process on this node, 0 if there is none; the names `here`, `home` … depend on it.
        umask: what its new files must not have; applied where the file is, for a default ACL overrides it.
    """

    pid: int = 0
    umask: int = 0


NOBODY = Caller()
"""A caller of no process, whose modes are taken as they are."""


class Attributes(NamedTuple):
    """What stat(2) tells.

    Attributes:
        mode: type and permissions.
        ino: inode number, unique with `dev`.
        dev: device of the file system.
        nlink: names it has.
        uid: owner.
        gid: group.
        rdev: which device a device node is.
        size: bytes.
        blksize: good size for reading and writing, bytes.
        blocks: allocated, in units of 512 bytes.
        atime_ns: last read, nanoseconds since 1970.
        mtime_ns: last written, likewise.
        ctime_ns: last changed at all, likewise.
    """

    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class Entry(NamedTuple):
    """A node that was found or made, counted as looked up once more."""

    node: int
    attributes: Attributes


class Created(NamedTuple):
    """A file that was made (or found) and opened: its node, counted once more, and the open file."""

    entry: Entry
    file: int


class DirectoryEntry(NamedTuple):
    """One name of a directory.

    Attributes:
        name: "." and ".." are among them.
        ino: inode number as readdir tells it (of a mount point: the one below).
        kind: DT_* of dirent.h, that is the type bits of the mode shifted right by 12; 0 if unknown.
        cookie: where reading goes on behind this entry.
    """

    name: bytes
    ino: int
    kind: int
    cookie: int


class EntryPlus(NamedTuple):
    """One name with the node behind it.

    Attributes:
        listed: the name.
        entry: the node, counted once more; None for "." and ".." and where it could not be looked up.
    """

    listed: DirectoryEntry
    entry: Entry | None


class Changes(NamedTuple):
    """What `setattr` shall change; None: leave it.

    Nothing at all is what chown(2) to -1 and -1 does: set-uid and set-gid bits go, and ctime is now.

    Attributes:
        mode: permissions (the type bits are ignored).
        uid: owner.
        gid: group.
        size: cut or stretch to so many bytes.
        atime_ns: nanoseconds since 1970, or `UTIME_NOW`.
        mtime_ns: likewise.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class FileSystem(NamedTuple):
    """What statvfs(3) tells; blocks are counted in units of `frsize`."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    flag: int
    namemax: int


class Lock(NamedTuple):
    """A POSIX record lock.

    Attributes:
        kind: fcntl.F_RDLCK, F_WRLCK or F_UNLCK.
        start: first byte.
        end: last byte, inclusive; `MAX_OFFSET`: to the end of the file.
        pid: who holds it (answers of `getlk`): a process of the owner's machine; -1: a remote one.
    """

    kind: int
    start: int = 0
    end: int = MAX_OFFSET
    pid: int = 0


class Interrupt:
    """Breaks off a waiting operation from another thread; good for one operation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fired = False
        self._callback: Callable[[], None] | None = None

    @property
    def fired(self) -> bool:
        """Somebody wants it broken off."""
        return self._fired

    def fire(self) -> None:
        """Break it off: it ends with EINTR, unless it is done already. May be called more than once."""
        with self._lock:
            self._fired = True
            callback = self._callback
        if callback is not None:
            callback()

    def attach(self, callback: Callable[[], None] | None) -> None:
        """Say what `fire` shall call (None: nothing any more); called at once if it fired before."""
        with self._lock:
            self._callback = callback
            fired = self._fired
        if fired and callback is not None:
            callback()


class Files(Protocol):
    """A file system. `flags` are those of open(2) of this architecture, `mode` has umask(2) still to come."""

    # names and nodes

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:
        """The node of that name; ENOENT."""

    def forget(self, batch: Sequence[tuple[int, int]]) -> None:
        """Give back lookups: pairs of a node and how many. Never fails; unknown nodes are passed over."""

    def getattr(self, caller: Caller, node: int, file: int | None = None) -> Attributes:
        """Attributes of a node, or of an open file of it."""

    def setattr(
        self, caller: Caller, node: int, changes: Changes, file: int | None = None
    ) -> Attributes:
        """Change attributes; with `file` as ftruncate(2) and its kin do. Returns the new ones."""

    def readlink(self, caller: Caller, node: int) -> bytes:
        """Where a symbolic link leads."""

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        """Make a regular file, fifo or socket; device nodes as far as the server's kernel lets the user."""

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry:
        """Make a directory."""

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Entry:
        """Make a symbolic link that leads to `target`."""

    def link(self, caller: Caller, node: int, parent: int, name: bytes) -> Entry:
        """Give a node one more name."""

    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:
        """Remove a name that is no directory's."""

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:
        """Remove an empty directory."""

    def rename(
        self, caller: Caller, parent: int, name: bytes, new_parent: int, new_name: bytes, *, flags: int = 0
    ) -> None:
        """Rename; flags RENAME_NOREPLACE (1), RENAME_EXCHANGE (2), RENAME_WHITEOUT (4): linux/fs.h."""

    def access(self, caller: Caller, node: int, mask: int) -> None:
        """Fail with EACCES or EROFS unless R_OK | W_OK | X_OK are allowed."""

    def statfs(self, caller: Caller, node: int) -> FileSystem:
        """About the file system that holds the node."""

    def setxattr(self, caller: Caller, node: int, name: bytes, value: bytes, flags: int = 0) -> None:
        """Set an extended attribute; flags XATTR_CREATE, XATTR_REPLACE."""

    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes:
        """Value of an extended attribute; ENODATA."""

    def listxattr(self, caller: Caller, node: int) -> tuple[bytes, ...]:
        """Names of all extended attributes."""

    def removexattr(self, caller: Caller, node: int, name: bytes) -> None:
        """Remove an extended attribute; ENODATA."""

    # opening

    def open(self, caller: Caller, node: int, flags: int) -> int:
        """Open a regular file (O_TRUNC works here; O_CREAT and O_EXCL are ignored); ENXIO for other kinds."""

    def create(self, caller: Caller, parent: int, name: bytes, flags: int, mode: int) -> Created:
        """open(2) with O_CREAT, and O_EXCL if it is among the flags; ELOOP if it is a symbolic link."""

    def tmpfile(self, caller: Caller, directory: int, flags: int, mode: int) -> Created:
        """open(2) with O_TMPFILE: a file without a name, which `link` may give one unless O_EXCL is set."""

    def opendir(self, caller: Caller, node: int) -> int:
        """Open a directory."""

    # open files

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Up to `size` (and MAX_TRANSFER) bytes; fewer only at the file's end."""

    def read_into(self, file: int, offset: int, buffer: memoryview) -> int:
        """The same into a buffer, without a copy; returns how many bytes."""

    def write(self, file: int, offset: int, data: Buffer, append: bool | None = None) -> int:
        """Write; returns how many bytes (up to MAX_TRANSFER).

        Args:
            file: an open file.
            offset: where; has no meaning for a file in append mode, which grows at its end in one step.
            data: what.
            append: whether O_APPEND is set at present (fcntl(F_SETFL) may change it); None: as opened.
        """

    def flush(self, file: int, owner: int = 0) -> None:
        """A descriptor of the file was closed: the POSIX locks of `owner` on the file end. Not a sync.

        What a file system says of earlier writes at close(2) is raised here.
        """

    def release(self, file: int) -> None:
        """The last descriptor was closed: the open file ends, and its flock with it. Never fails."""

    def fsync(self, file: int, datasync: bool = False) -> None:
        """Bring it to the disk; with `datasync` only what is needed to read it again."""

    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None:
        """Reserve, punch, zero or collapse a range, as the system call of that name does."""

    def lseek(self, file: int, offset: int, whence: int) -> int:
        """SEEK_DATA, SEEK_HOLE and SEEK_END; the open file itself has no position."""

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, size: int
    ) -> int:
        """Copy within the server; EXDEV if the two are not on one server."""

    def descriptor(self, file: int) -> int | None:
        """The descriptor in this very process behind an open file, None if it is elsewhere.

        It belongs to `Files` (for FUSE_PASSTHROUGH or to hand on a copy); good until `release`.
        """

    # open directories

    def readdir(self, file: int, cookie: int, limit: int = 512) -> Sequence[DirectoryEntry]:
        """Entries behind `cookie` (0: from the beginning), about `limit` of them; empty: the end."""

    def readdirplus(
        self, caller: Caller, file: int, cookie: int, limit: int = 512
    ) -> Sequence[EntryPlus]:
        """The same with lookups: entries that the reader does not pass on must be forgotten."""

    def releasedir(self, file: int) -> None:
        """The open directory ends. Never fails."""

    def fsyncdir(self, file: int, datasync: bool = False) -> None:
        """Bring a directory's names to the disk."""

    # locks

    def getlk(self, file: int, owner: int, lock: Lock) -> Lock | None:
        """The lock of somebody else that would keep `owner` from `lock`; None: it is free."""

    def setlk(
        self, file: int, owner: int, lock: Lock, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """Set or end (F_UNLCK) a POSIX lock; EAGAIN if it is not free, EINTR if broken off.

        Args:
            file: an open file; EBADF if it is not open for what the lock needs.
            owner: any number up to 64 bits; one owner's locks never conflict with each other. The owners of
                different clients are different.
            lock: what to lock.
            wait: until it is free. This blocks: give it a thread of its own.
            interrupt: breaks off the waiting.
        """

    def flock(
        self, file: int, operation: int, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """Lock the open file as such: fcntl.LOCK_SH, LOCK_EX or LOCK_UN; EWOULDBLOCK; waits as `setlk`."""

    # all of it

    def close(self) -> None:
        """End it: open files, locks, nodes. Never fails."""
