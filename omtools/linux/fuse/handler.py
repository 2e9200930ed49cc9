"""What a file system of one's own implements: one method per request, with typed arguments and returns.

A method that fails raises OSError; its errno is the caller's. Anything else that escapes a method is EIO for
the caller and one line in the log. A method that is not overridden says ENOSYS: the kernel then does what it
does for file systems that lack the thing, mostly without asking again (locks: local ones; xattr: EOPNOTSUPP).
"""

# Methods that only say ENOSYS use no argument; those that behave as the system call of the same name need no
# further words; and they are called by position, in the protocol's order.
# ruff: noqa: ARG002, D102, PLR0917

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from omtools.linux.fuse import abi

if TYPE_CHECKING:
    from omtools.linux.fuse.session import Session

Buffer = bytes | bytearray | memoryview


class Request:
    """One request, and who asks.

    Attributes:
        node: the node it is about; for names their directory.
        uid, gid, pid: of the caller, in the namespaces of the mount and of the server; pid is 0 when the
            kernel asks by itself (RELEASE, read-ahead) or the caller is in another pid namespace.
        unique: its number.
        body: what follows the header; valid until the method returns.
        room: space for the data of a READ; valid until the method returns.
    """

    __slots__ = ("body", "gid", "node", "opcode", "pid", "room", "uid", "unique")

    def __init__(
        self, opcode: int, unique: int, node: int, uid: int, gid: int, pid: int,
        body: memoryview, room: memoryview,
    ) -> None:  # fmt: skip
        self.opcode = opcode
        self.unique = unique
        self.node = node
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.body = body
        self.room = room


class Cancellation:
    """Set when the caller of a blocking request was interrupted, or the file system ends."""

    __slots__ = ("_called", "_event", "_lock")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._called: list[Callable[[], object]] = []

    def set(self) -> None:
        """Let go of what waits."""
        with self._lock:
            self._event.set()
            called, self._called = self._called, []
        for one in called:
            one()

    def is_set(self) -> bool:
        """Whether it is time to give up with EINTR."""
        return self._event.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, at most so long; whether it is."""
        return self._event.wait(seconds)

    def on_set(self, call: Callable[[], object]) -> None:
        """Call this when it is set, at once if it is."""
        with self._lock:
            if not self._event.is_set():
                self._called.append(call)
                return
        call()


class Directory:
    """The reply to READDIR or READDIRPLUS, filled until the next name no longer fits."""

    __slots__ = ("_left", "_parts", "_valid", "plus")

    def __init__(self, size: int, plus: bool, valid: tuple[int, int, int, int]) -> None:
        self.plus = plus
        self._left = size
        self._valid = valid
        self._parts: list[bytes] = []

    @property
    def room(self) -> int:
        """Bytes that are left."""
        return self._left

    def fits(self, name: bytes) -> bool:
        """Whether an entry of this name would."""
        return _dirent_size(name, self.plus) <= self._left

    def add(self, name: bytes, ino: int, kind: int, cookie: int, entry: abi.Entry | None = None) -> bool:
        """Add one entry; False, and nothing is added, if it does not fit.

        Args:
            name: of the entry.
            ino: its inode number (not 0: the C library would leave it out).
            kind: S_IFMT bits of its mode, 0 if unknown.
            cookie: what READDIR shall say as its offset to go on *after* this entry; not 0.
            entry: with `plus` what LOOKUP would say, and it counts as one; None: only the name.
        """
        size = _dirent_size(name, self.plus)
        if size > self._left:
            return False
        self._left -= size
        if self.plus:
            self._parts.append(pack_entry(entry, self._valid) if entry else _NO_ENTRY)
        self._parts.append(abi.DIRENT.pack(ino, cookie, len(name), kind >> 12))
        self._parts.append(name + bytes(-len(name) % 8))
        return True

    def packed(self) -> bytes:
        """The reply."""
        return b"".join(self._parts)


_NO_ENTRY = bytes(abi.ENTRY_OUT.size)


def _dirent_size(name: bytes, plus: bool) -> int:
    return abi.DIRENT.size + len(name) + -len(name) % 8 + (abi.ENTRY_OUT.size if plus else 0)


def pack_entry(entry: abi.Entry, valid: tuple[int, int, int, int]) -> bytes:
    """A struct fuse_entry_out; valid: entry and attribute seconds, then the nanoseconds of both."""
    return abi.ENTRY_OUT.pack(entry.node, entry.generation, *valid, *entry.attributes.packed())


def _unsupported() -> NoReturn:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


class Handler:
    """A file system; nodes are numbers that LOOKUP and its like gave out, the root is `abi.ROOT_ID`.

    Methods are called from several threads at once. Every `Entry` that is returned (or added to a
    READDIRPLUS) is one reference to its node, which `forget` takes back.

    Attributes:
        wanted: INIT flags to have if the kernel has them.
        entry_valid, attributes_valid: seconds for which the kernel may believe names and attributes.
    """

    wanted: abi.Init = (
        abi.Init.ASYNC_READ | abi.Init.POSIX_LOCKS | abi.Init.FLOCK_LOCKS | abi.Init.ATOMIC_O_TRUNC
        | abi.Init.BIG_WRITES | abi.Init.DO_READDIRPLUS | abi.Init.READDIRPLUS_AUTO | abi.Init.PARALLEL_DIROPS
        | abi.Init.HANDLE_KILLPRIV | abi.Init.HANDLE_KILLPRIV_V2 | abi.Init.DONT_MASK | abi.Init.SETXATTR_EXT
        | abi.Init.PASSTHROUGH
    )  # fmt: skip
    entry_valid: float = 0.0
    attributes_valid: float = 0.0

    def started(self, session: Session, agreed: abi.Init) -> None:
        """The kernel and the session agreed on these flags; requests follow."""

    def ended(self) -> None:
        """No request follows; close what is open."""

    def lookup(self, request: Request, name: bytes) -> abi.Entry:
        _unsupported()

    def forget(self, node: int, count: int) -> None:
        """The kernel drops so many references; has no reply."""

    def forget_many(self, batch: list[tuple[int, int]]) -> None:
        """The same for pairs of a node and how many."""
        for node, count in batch:
            self.forget(node, count)

    def getattr(self, request: Request, fh: int | None) -> abi.Attributes:
        _unsupported()

    def setattr(self, request: Request, change: abi.SetattrIn) -> abi.Attributes:
        _unsupported()

    def readlink(self, request: Request) -> bytes:
        _unsupported()

    def symlink(self, request: Request, name: bytes, target: bytes) -> abi.Entry:
        _unsupported()

    def mknod(self, request: Request, name: bytes, mode: int, device: int, umask: int) -> abi.Entry:
        """Make a file of any kind but a directory; `device` as os.mknod has it."""
        _unsupported()

    def mkdir(self, request: Request, name: bytes, mode: int, umask: int) -> abi.Entry:
        _unsupported()

    def unlink(self, request: Request, name: bytes) -> None:
        _unsupported()

    def rmdir(self, request: Request, name: bytes) -> None:
        _unsupported()

    def rename(self, request: Request, name: bytes, directory: int, new: bytes, flags: int) -> None:
        """Move `name` to `new` in `directory`; flags: RENAME_* of renameat2(2)."""
        _unsupported()

    def link(self, request: Request, node: int, name: bytes) -> abi.Entry:
        """Give `node` the further name `name` in the request's directory."""
        _unsupported()

    def open(self, request: Request, flags: int, kill: bool) -> abi.Opened:
        """Open the node; `kill`: an O_TRUNC takes set-uid and set-gid away."""
        _unsupported()

    def create(
        self, request: Request, name: bytes, flags: int, mode: int, umask: int, kill: bool
    ) -> tuple[abi.Entry, abi.Opened]:
        """Make (O_EXCL: it must not be there yet) and open a regular file."""
        _unsupported()

    def tmpfile(
        self, request: Request, flags: int, mode: int, umask: int
    ) -> tuple[abi.Entry, abi.Opened]:
        """Make and open a regular file without a name: O_TMPFILE."""
        _unsupported()

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        """The data, or how many bytes were put into `request.room`; fewer than asked means the file's end."""
        _unsupported()

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        """Write; `data` is valid until the method returns."""
        _unsupported()

    def statfs(self, request: Request) -> abi.StatFs:
        _unsupported()

    def flush(self, request: Request, fh: int, lock_owner: int) -> None:
        """A descriptor of the file was closed: the owner's fcntl locks go."""
        _unsupported()

    def release(self, request: Request, asked: abi.ReleaseIn) -> None:
        """The last descriptor was closed."""
        _unsupported()

    def fsync(self, request: Request, fh: int, data_only: bool) -> None:
        _unsupported()

    def opendir(self, request: Request, flags: int) -> abi.Opened:
        _unsupported()

    def readdir(self, request: Request, fh: int, cookie: int, into: Directory) -> None:
        """Add entries after the one with this cookie (0: from the beginning) until one does not fit."""
        _unsupported()

    def releasedir(self, request: Request, fh: int) -> None:
        _unsupported()

    def fsyncdir(self, request: Request, fh: int, data_only: bool) -> None:
        _unsupported()

    def setxattr(self, request: Request, name: bytes, value: bytes, flags: int) -> None:
        _unsupported()

    def getxattr(self, request: Request, name: bytes) -> bytes:
        _unsupported()

    def listxattr(self, request: Request) -> list[bytes]:
        _unsupported()

    def removexattr(self, request: Request, name: bytes) -> None:
        _unsupported()

    def access(self, request: Request, mask: int) -> None:
        _unsupported()

    def getlk(self, request: Request, asked: abi.LockIn) -> abi.Lock:
        """The lock that is in the way, or one of kind F_UNLCK."""
        _unsupported()

    def setlk(self, request: Request, asked: abi.LockIn) -> None:
        """Take or drop a lock without waiting; EAGAIN if another is in the way."""
        _unsupported()

    def setlkw(self, request: Request, asked: abi.LockIn, cancellation: Cancellation) -> None:
        """Take a lock, waiting for it; has a thread of its own. When cancelled: EINTR."""
        _unsupported()

    def fallocate(self, request: Request, asked: abi.FallocateIn) -> None:
        _unsupported()

    def lseek(self, request: Request, fh: int, offset: int, whence: int) -> int:
        """SEEK_DATA and SEEK_HOLE; the kernel does the others itself."""
        _unsupported()

    def copy_file_range(self, request: Request, asked: abi.CopyIn) -> int:
        _unsupported()

    def ioctl(self, request: Request, asked: abi.IoctlIn, data: bytes) -> tuple[int, bytes]:
        """An ioctl whose number says how much data goes in and comes out: its result and the latter."""
        _unsupported()

    def syncfs(self, request: Request) -> None:
        _unsupported()
