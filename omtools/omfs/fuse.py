"""Mounts any `Files` by FUSE, with the consistency of a single machine.

Nothing is cached on this side: names and attributes are asked anew each time, data go directly (direct
I/O), locks of both kinds and O_APPEND are the server's. In NFS's terms: `lookupcache=none,actimeo=0,sync`,
and stricter than close-to-open: a write is there for everybody when write(2) returns.

Memory mappings. Private ones (and so programs and libraries) work: their pages are read when they are first
touched after the mapping was made. As with NFS, the text of a program that is changed on another node while
it runs is not protected (ETXTBSY holds on the node where it runs). *Shared* mappings would need the pages
of all nodes to be one, which they are not, so they fail with ENODEV instead of losing writes, as with 9p's
`cache=none`. SQLite, say, works with its rollback journal, and with WAL if `locking_mode=exclusive`. On
this node's own files the kernel goes through to the file itself (FUSE_PASSTHROUGH; as root, from Linux 6.9
on): there shared mappings are the real ones, and data cost what they cost without a mount.

What FUSE cannot do: fifos and sockets that are made here connect processes of this node only, and among them
those who may both read and write (the kernel lets everybody open them and asks nobody, so who may not finds
nobody there, instead of EACCES); where several append, the position of the file descriptor (not the data)
after a write is a guess; copy_file_range(2) ends where the file did when it was last looked at (stat, seek to
the end), and sendfile(2) and splice(2) read what was in another node's file when it was last opened, for the
kernel keeps their pages; chattr(1) knows no flags; inotify sees what this node does; a write(2) of more than
256 KiB to another node is written in pieces, as it arrives, between which others may write (with O_APPEND one
of more than 1 MiB): when it returns, all of it is there. epoll(7) takes regular files,
fallocate(2) cannot collapse or insert ranges, and who may run a program must be allowed to read it. F_GETLK
names no process of another node (l_pid is 0); fs.protected_regular of sysctl(8) does not hold, for O_CREAT on
a file that is there looks like any other open; nobody is asked about "." and "..". Where two things are wrong
with a call, permissions, which only the server judges, are named last.
"""

# Methods have the arguments that the protocol gives them, in its order. What was opened needs no caller, and
# set-uid bits are taken away by the kernel behind the `Files`, which has the caller's rights and no more.
# ruff: noqa: ARG002, PLR0917

from __future__ import annotations

import errno
import fcntl
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Fattr, Fopen, Init
from omtools.linux.fuse.handler import Buffer, Cancellation, Directory, Handler, Request
from omtools.linux.fuse.session import Session
from omtools.omfs.fuse_nodes import MountNode, MountNodes
from omtools.omfs.fuse_open import Open, changes_of
from omtools.omfs.nodes import failure
from omtools.omfs.operations import (
    MAX_OFFSET,
    Attributes,
    Caller,
    Changes,
    Entry,
    EntryPlus,
    Files,
    Interrupt,
    Lock,
)

_T = TypeVar("_T")
FilesFor = Callable[[int, int, int], Files]
"""From uid, gid and pid of the caller (of the mount's namespaces) to the `Files` with that user's rights."""

_ENTRY_SIZE = abi.DIRENT.size + 16  # of a middling name
_NO_LOCK = abi.Lock(0, 0, fcntl.F_UNLCK, 0)
_FLOCKS = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}
_RENAME_EXCHANGE = 2  # linux/fs.h
_O_APPEND = 0o2000  # asm-generic/fcntl.h


def _wire(attributes: Attributes) -> abi.Attributes:
    return abi.Attributes(
        attributes.ino, attributes.size, attributes.blocks,
        attributes.atime_ns, attributes.mtime_ns, attributes.ctime_ns,
        attributes.mode, attributes.nlink, attributes.uid, attributes.gid, attributes.rdev,
        attributes.blksize,
    )  # fmt: skip


class FilesHandler(Handler):
    """The adapter.

    Args:
        files_for: whose rights a caller has; asked for every request, so it should remember its answers. The
            OSError that it raises (EACCES, for whom it has none) is the caller's.
        passthrough: let the kernel read and write this node's own files by itself, where it allows that.
        shared_mappings: allow shared mappings (Linux 6.6): this node sees its own at once, other nodes after
            msync(2) or the last munmap(2). Only for what is written on one node.
    """

    def __init__(
        self, files_for: FilesFor, *, passthrough: bool = True, shared_mappings: bool = False
    ) -> None:
        self.wanted = Handler.wanted
        if not passthrough:
            self.wanted &= ~Init.PASSTHROUGH
        if shared_mappings:
            self.wanted |= Init.DIRECT_IO_ALLOW_MMAP
        self._files_for = files_for
        self._nodes = MountNodes()
        self._open: dict[int, Open] = {}
        self._handles = itertools.count(1)
        self._session: Session | None = None
        self._passing = False
        self._passing_lock = threading.Lock()

    def started(self, session: Session, agreed: Init) -> None:
        """See `Handler`."""
        self._session = session
        self._passing = Init.PASSTHROUGH in agreed

    def ended(self) -> None:
        """See `Handler`."""
        for opened in list(self._open.values()):
            opened.files.release(opened.file)
        self._open.clear()

    @property
    def in_use(self) -> bool:
        """Something is open."""
        return bool(self._open)

    # whose, and which

    def _on(self, request: Request, call: Callable[[Files, Caller, int], _T], umask: int = 0) -> _T:
        """Do something with the request's node as the request's caller; once more if its server forgot it."""
        files = self._files_for(request.uid, request.gid, request.pid)
        caller = Caller(request.pid, umask)
        try:
            return call(files, caller, self._nodes.of(files, request.node, caller))
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        return call(files, caller, self._nodes.again(files, request.node, caller))

    def _opened(self, fh: int) -> Open:
        try:
            return self._open[fh]
        except KeyError:
            raise failure(errno.EBADF) from None

    def _enroll(self, opened: Open) -> int:
        handle = next(self._handles)
        self._open[handle] = opened
        return handle

    def _entry(self, files: Files, parent: int, name: bytes, entry: Entry) -> abi.Entry:
        node = self._nodes.adopt(files, parent, name, entry)
        return abi.Entry(node.number, 0, _wire(entry.attributes))

    # names and nodes

    def _named(
        self, request: Request, name: bytes, call: Callable[[Files, Caller, int], Entry], umask: int = 0
    ) -> abi.Entry:
        """An operation that finds or makes a name in the request's directory."""

        def find(files: Files, caller: Caller, parent: int) -> abi.Entry:
            return self._entry(files, request.node, name, call(files, caller, parent))

        return self._on(request, find, umask)

    def lookup(self, request: Request, name: bytes) -> abi.Entry:
        """See `Handler`."""
        return self._named(request, name, lambda files, caller, at: files.lookup(caller, at, name))

    def forget(self, node: int, count: int) -> None:
        """See `Handler`."""
        self._nodes.forget([(node, count)])

    def forget_many(self, batch: list[tuple[int, int]]) -> None:
        """See `Handler`."""
        self._nodes.forget(batch)

    def getattr(self, request: Request, fh: int | None) -> abi.Attributes:
        """See `Handler`."""
        if fh is not None and fh in self._open:
            opened = self._open[fh]
            number = opened.node.users.get(opened.files)
            if number is not None:
                return _wire(opened.files.getattr(Caller(request.pid), number, opened.file))
        return _wire(self._on(request, lambda files, caller, node: files.getattr(caller, node)))

    def setattr(self, request: Request, change: abi.SetattrIn) -> abi.Attributes:
        """See `Handler`."""
        changes = changes_of(change)
        if change.valid & Fattr.FH and change.fh in self._open:
            opened = self._open[change.fh]
            number = opened.node.users.get(opened.files)
            if number is not None:
                return _wire(opened.files.setattr(Caller(request.pid), number, changes, opened.file))
        try:
            return _wire(self._on(request, lambda files, caller, node: files.setattr(caller, node, changes)))
        except OSError as error:
            # Before fallocate(2) and copy_file_range(2) the kernel takes set-id bits away, by what looks
            # like chown(-1, -1). The kernel behind the `Files` does so then by itself, whoever calls.
            node = self._nodes.get(request.node)
            if error.errno != errno.EPERM or changes != Changes() or not (node.plain or node.through):
                raise
        return self.getattr(request, None)

    def readlink(self, request: Request) -> bytes:
        """See `Handler`."""
        return self._on(request, lambda files, caller, node: files.readlink(caller, node))

    def symlink(self, request: Request, name: bytes, target: bytes) -> abi.Entry:
        """See `Handler`."""
        return self._named(request, name, lambda files, caller, at: files.symlink(caller, at, name, target))

    def mknod(self, request: Request, name: bytes, mode: int, device: int, umask: int) -> abi.Entry:
        """See `Handler`."""
        return self._named(
            request, name, lambda files, caller, at: files.mknod(caller, at, name, mode, device), umask
        )

    def mkdir(self, request: Request, name: bytes, mode: int, umask: int) -> abi.Entry:
        """See `Handler`."""
        return self._named(
            request, name, lambda files, caller, at: files.mkdir(caller, at, name, mode), umask
        )

    def unlink(self, request: Request, name: bytes) -> None:
        """See `Handler`."""
        self._on(request, lambda files, caller, at: files.unlink(caller, at, name))

    def rmdir(self, request: Request, name: bytes) -> None:
        """See `Handler`."""
        self._on(request, lambda files, caller, at: files.rmdir(caller, at, name))

    def rename(self, request: Request, name: bytes, directory: int, new: bytes, flags: int) -> None:
        """See `Handler`."""

        def move(files: Files, caller: Caller, at: int) -> None:
            to = self._nodes.of(files, directory, caller)
            files.rename(caller, at, name, to, new, flags=flags)

        self._on(request, move)
        self._nodes.moved(request.node, name, directory, new, bool(flags & _RENAME_EXCHANGE))

    def link(self, request: Request, node: int, name: bytes) -> abi.Entry:
        """See `Handler`."""
        return self._named(
            request, name,
            lambda files, caller, at: files.link(caller, self._nodes.of(files, node, caller), at, name),
        )  # fmt: skip

    def access(self, request: Request, mask: int) -> None:
        """See `Handler`."""
        self._on(request, lambda files, caller, node: files.access(caller, node, mask))

    def statfs(self, request: Request) -> abi.StatFs:
        """See `Handler`."""
        told = self._on(request, lambda files, caller, node: files.statfs(caller, node))
        return abi.StatFs(
            told.blocks, told.bfree, told.bavail, told.files, told.ffree, told.bsize, told.namemax,
            told.frsize,
        )  # fmt: skip

    def setxattr(self, request: Request, name: bytes, value: bytes, flags: int) -> None:
        """See `Handler`."""
        self._on(request, lambda files, caller, node: files.setxattr(caller, node, name, value, flags))

    def getxattr(self, request: Request, name: bytes) -> bytes:
        """See `Handler`."""
        return self._on(request, lambda files, caller, node: files.getxattr(caller, node, name))

    def listxattr(self, request: Request) -> list[bytes]:
        """See `Handler`."""
        return list(self._on(request, lambda files, caller, node: files.listxattr(caller, node)))

    def removexattr(self, request: Request, name: bytes) -> None:
        """See `Handler`."""
        self._on(request, lambda files, caller, node: files.removexattr(caller, node, name))

    # opening

    def open(self, request: Request, flags: int, kill: bool) -> abi.Opened:
        """See `Handler`."""

        def open_it(files: Files, caller: Caller, node: int) -> abi.Opened:
            return self._open_as(files, request.node, files.open(caller, node, flags))

        return self._on(request, open_it)

    def create(
        self, request: Request, name: bytes, flags: int, mode: int, umask: int, kill: bool
    ) -> tuple[abi.Entry, abi.Opened]:
        """See `Handler`."""

        def make(files: Files, caller: Caller, at: int) -> tuple[abi.Entry, abi.Opened]:
            created = files.create(caller, at, name, flags, mode)
            entry = self._entry(files, request.node, name, created.entry)
            return entry, self._open_as(files, entry.node, created.file)

        return self._on(request, make, umask)

    def tmpfile(
        self, request: Request, flags: int, mode: int, umask: int
    ) -> tuple[abi.Entry, abi.Opened]:
        """See `Handler`."""

        def make(files: Files, caller: Caller, at: int) -> tuple[abi.Entry, abi.Opened]:
            created = files.tmpfile(caller, at, flags, mode)
            entry = self._entry(files, request.node, b"", created.entry)
            return entry, self._open_as(files, entry.node, created.file)

        return self._on(request, make, umask)

    def _open_as(self, files: Files, number: int, file: int) -> abi.Opened:
        node = self._nodes.get(number)
        backing = self._pass(files, node, file)
        handle = self._enroll(Open(files, file, node, bool(backing)))
        if backing:
            return abi.Opened(handle, Fopen.PASSTHROUGH, backing)
        return abi.Opened(handle, Fopen.DIRECT_IO | Fopen.PARALLEL_DIRECT_WRITES)

    def _pass(self, files: Files, node: MountNode, file: int) -> int:
        """The kernel's id of the file behind, 0 if it has to come to us.

        The kernel wants all open files of an inode to be of one kind, with one id.
        """
        session = self._session
        with self._passing_lock:
            if not node.backing and self._passing and session is not None and not node.plain:
                descriptor = files.descriptor(file)
                if descriptor is not None:
                    try:
                        node.backing = session.open_backing(descriptor)
                    except OSError as error:
                        self._passing = error.errno != errno.EPERM
            if node.backing:
                node.through += 1
            else:
                node.plain += 1
            return node.backing

    def release(self, request: Request, asked: abi.ReleaseIn) -> None:
        """See `Handler`."""
        opened = self._open.pop(asked.fh, None)
        if opened is None:
            return
        opened.files.release(opened.file)
        node = opened.node
        with self._passing_lock:
            if not opened.through:
                node.plain -= 1
                return
            node.through -= 1
            backing = 0 if node.through else node.backing
            if backing:
                node.backing = 0
        if backing and self._session is not None:
            self._session.close_backing(backing)

    def opendir(self, request: Request, flags: int) -> abi.Opened:
        """See `Handler`."""

        def open_it(files: Files, caller: Caller, node: int) -> abi.Opened:
            opened = Open(files, files.opendir(caller, node), self._nodes.get(request.node))
            return abi.Opened(self._enroll(opened))

        return self._on(request, open_it)

    # open files

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        """See `Handler`."""
        opened = self._opened(asked.fh)
        return opened.files.read_into(opened.file, asked.offset, request.room[: asked.size])

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        """See `Handler`."""
        opened = self._opened(asked.fh)
        opened.written = True
        return opened.files.write(opened.file, asked.offset, data, bool(asked.flags & _O_APPEND))

    def flush(self, request: Request, fh: int, lock_owner: int) -> None:
        """See `Handler`."""
        self._opened(fh).flush(lock_owner)

    def fsync(self, request: Request, fh: int, data_only: bool) -> None:
        """See `Handler`."""
        opened = self._opened(fh)
        opened.files.fsync(opened.file, data_only)

    def fallocate(self, request: Request, asked: abi.FallocateIn) -> None:
        """See `Handler`."""
        opened = self._opened(asked.fh)
        opened.written = True
        opened.files.fallocate(opened.file, asked.mode, asked.offset, asked.length)

    def lseek(self, request: Request, fh: int, offset: int, whence: int) -> int:
        """See `Handler`."""
        opened = self._opened(fh)
        return opened.files.lseek(opened.file, offset, whence)

    def copy_file_range(self, request: Request, asked: abi.CopyIn) -> int:
        """See `Handler`."""
        source, target = self._opened(asked.fh_in), self._opened(asked.fh_out)
        if source.files is not target.files:
            raise failure(errno.EXDEV)  # the kernel copies by itself then
        target.written = True
        return source.files.copy_file_range(
            source.file, asked.off_in, target.file, asked.off_out, asked.length
        )

    # open directories

    def readdir(self, request: Request, fh: int, cookie: int, into: Directory) -> None:
        """See `Handler`."""
        opened = self._opened(fh)
        limit = into.room // (_ENTRY_SIZE + (abi.ENTRY_OUT.size if into.plus else 0)) + 1
        while True:
            if not into.plus:
                found = opened.files.readdir(opened.file, cookie, limit)
                fit = all(into.add(one.name, one.ino, one.kind << 12, one.cookie) for one in found)
                if not found or not fit:
                    return
                cookie = found[-1].cookie
                continue
            more = opened.files.readdirplus(Caller(request.pid), opened.file, cookie, limit)
            if not more or not self._add_plus(opened, more, into):
                return
            cookie = more[-1].listed.cookie

    def _add_plus(self, opened: Open, found: Sequence[EntryPlus], into: Directory) -> bool:
        for index, (listed, entry) in enumerate(found):
            if not into.fits(listed.name):
                unseen = [(one.entry.node, 1) for one in found[index:] if one.entry is not None]
                opened.files.forget(unseen)
                return False
            known = None
            if entry is not None:
                known = self._entry(opened.files, opened.node.number, listed.name, entry)
            into.add(listed.name, listed.ino, listed.kind << 12, listed.cookie, known)
        return True

    def releasedir(self, request: Request, fh: int) -> None:
        """See `Handler`."""
        opened = self._open.pop(fh, None)
        if opened is not None:
            opened.files.releasedir(opened.file)

    def fsyncdir(self, request: Request, fh: int, data_only: bool) -> None:
        """See `Handler`."""
        opened = self._opened(fh)
        opened.files.fsyncdir(opened.file, data_only)

    # locks

    def getlk(self, request: Request, asked: abi.LockIn) -> abi.Lock:
        """See `Handler`."""
        opened = self._opened(asked.fh)
        opened.locks(asked.owner)
        found = opened.files.getlk(opened.file, asked.owner, _lock(asked))
        if found is None:
            return _NO_LOCK
        return abi.Lock(found.start, min(found.end, MAX_OFFSET), found.kind, max(0, found.pid))

    def setlk(self, request: Request, asked: abi.LockIn) -> None:
        """See `Handler`."""
        opened = self._opened(asked.fh)
        if asked.is_flock:
            opened.files.flock(opened.file, _FLOCKS[asked.kind])
        else:
            opened.locks(asked.owner)
            opened.files.setlk(opened.file, asked.owner, _lock(asked))

    def setlkw(self, request: Request, asked: abi.LockIn, cancellation: Cancellation) -> None:
        """See `Handler`."""
        opened = self._opened(asked.fh)
        interrupt = Interrupt()
        cancellation.on_set(interrupt.fire)
        if asked.is_flock:
            opened.files.flock(opened.file, _FLOCKS[asked.kind], True, interrupt)
        else:
            opened.locks(asked.owner)
            opened.files.setlk(opened.file, asked.owner, _lock(asked), True, interrupt)


def _lock(asked: abi.LockIn) -> Lock:
    return Lock(asked.kind, asked.start, min(asked.end, MAX_OFFSET), asked.pid)
