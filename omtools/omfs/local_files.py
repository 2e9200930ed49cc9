"""Open files and directories of this machine: opening, reading, writing, listing."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Sequence

from omtools.linux.files import fallocate, getdents
from omtools.omfs.descriptors import Descriptor
from omtools.omfs.local_base import attributes_of, check_name
from omtools.omfs.local_names import LocalNames
from omtools.omfs.nodes import Node, Opened, failure
from omtools.omfs.operations import (
    MAX_TRANSFER,
    Buffer,
    Caller,
    Created,
    DirectoryEntry,
    Entry,
    EntryPlus,
)

# Not O_DIRECT, for buffers lie where they lie; not O_NONBLOCK, for only regular files are opened.
_OPEN_FLAGS = (
    os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC | os.O_NOATIME | os.O_LARGEFILE
)
_PERHAPS_THERE = (errno.EEXIST, errno.EROFS, errno.EACCES, errno.EBUSY)
_MASKS = (os.R_OK, os.W_OK, os.R_OK | os.W_OK, os.R_OK | os.W_OK)  # what O_ACCMODE asks for
_TRIES = 16  # a name may come and go while it is created
_NAMELESS = b""  # no name that can be looked up
_DT_DIR = stat.S_IFDIR >> 12
_LONGEST = 320  # a struct linux_dirent64 with a name of NAME_MAX bytes fits in


class OpenedDirectory(Opened):
    """An open directory, and where the kernel's own position in it is.

    Attributes:
        position: cookie that the next getdents64 goes on from.
        lock: one reader at a time.
    """

    __slots__ = ("lock", "position")

    def __init__(self, node: Node, descriptor: Descriptor) -> None:
        super().__init__(node, descriptor, os.O_RDONLY)
        self.position = 0
        self.lock = threading.Lock()


class LocalOpened(LocalNames):
    """The operations of `Files` that open, and those on what is open (but for locks)."""

    def open(self, caller: Caller, node: int, flags: int) -> int:  # noqa: ARG002 - all callers see the same
        """See `Files`."""
        return self._open(self._nodes.get(node), flags)

    def _open(self, node: Node, flags: int) -> int:
        if node.kind == stat.S_IFDIR:
            raise failure(errno.EISDIR)
        if node.kind == stat.S_IFLNK:
            raise failure(errno.ELOOP)
        if node.kind != stat.S_IFREG:
            path, mask = self._nodes.anchor(node).path, _MASKS[flags & os.O_ACCMODE]
            allowed = os.access(path, mask, effective_ids=True)
            raise failure(errno.ENXIO if allowed else errno.EACCES)
        self._check_writing(node, flags)
        path = self._nodes.anchor(node).path
        kept = flags & _OPEN_FLAGS
        descriptor = Descriptor(self._retry(lambda: os.open(path, kept | os.O_CLOEXEC)))
        return self._enroll(Opened(node, descriptor, kept))

    @staticmethod
    def _check_writing(node: Node, flags: int) -> None:
        writing = flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
        if writing and (node.export is None or node.export.read_only):
            raise failure(errno.EROFS)

    def create(self, caller: Caller, parent: int, name: bytes, flags: int, mode: int) -> Created:
        """See `Files`."""
        directory = self._nodes.get(parent)
        check_name(name)
        for _attempt in range(_TRIES):
            try:
                return self._create_new(caller, parent, name, flags, mode)
            except OSError as error:
                if error.errno not in _PERHAPS_THERE or flags & os.O_EXCL:
                    raise
                reason = error
            # It is opened through its node, never by its name: that might be a device by now.
            try:
                entry = self._find(directory, name)
            except FileNotFoundError:
                if reason.errno != errno.EEXIST:
                    raise reason from None
                continue
            try:
                return Created(entry, self._open(self._nodes.get(entry.node), flags))
            except OSError:
                self._nodes.forget(entry.node, 1)
                raise
        raise failure(errno.EAGAIN)

    def _create_new(self, caller: Caller, parent: int, name: bytes, flags: int, mode: int) -> Created:
        directory, anchor = self._directory(parent, name)
        kept = flags & _OPEN_FLAGS
        how = (kept & ~os.O_TRUNC) | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = self._umask.run(
            caller.umask,
            lambda: self._retry(lambda: os.open(name, how, stat.S_IMODE(mode), dir_fd=anchor.number)),
        )
        return self._created(Descriptor(number), directory, name, kept)

    def _created(self, descriptor: Descriptor, directory: Node, name: bytes, flags: int) -> Created:
        held = Descriptor(self._retry(lambda: os.open(descriptor.path, os.O_PATH | os.O_CLOEXEC)))
        node, status = self._nodes.adopt(held, directory, name, directory.export, None)
        entry = Entry(node.number, attributes_of(status))
        return Created(entry, self._enroll(Opened(node, descriptor, flags)))

    def tmpfile(self, caller: Caller, directory: int, flags: int, mode: int) -> Created:
        """See `Files`."""
        node, anchor = self._writable(directory)
        if node.kind != stat.S_IFDIR:
            raise failure(errno.ENOTDIR)
        kept = flags & (_OPEN_FLAGS & ~os.O_TRUNC)
        how = kept | (flags & os.O_EXCL) | os.O_TMPFILE | os.O_CLOEXEC
        number = self._umask.run(
            caller.umask,
            lambda: self._retry(lambda: os.open(anchor.path, how, stat.S_IMODE(mode))),
        )
        return self._created(Descriptor(number), node, _NAMELESS, kept)

    # reading and writing

    def read(self, file: int, offset: int, size: int) -> bytes:
        """See `Files`."""
        opened = self._file(file)
        return os.pread(opened.descriptor.number, min(size, MAX_TRANSFER), offset)

    def read_into(self, file: int, offset: int, buffer: memoryview) -> int:
        """See `Files`."""
        if offset < 0:
            raise failure(errno.EINVAL)  # preadv2(2) takes -1 for the descriptor's own position
        opened = self._file(file)
        return os.preadv(opened.descriptor.number, [buffer[:MAX_TRANSFER]], offset)

    def write(self, file: int, offset: int, data: Buffer, append: bool | None = None) -> int:
        """See `Files`."""
        opened = self._file(file)
        if append is not None and append != opened.append:
            self._set_append(opened, append)
        if len(data) > MAX_TRANSFER:
            data = memoryview(data)[:MAX_TRANSFER]
        return os.pwrite(opened.descriptor.number, data, offset)

    @staticmethod
    def _set_append(opened: Opened, append: bool) -> None:
        flags = fcntl.fcntl(opened.descriptor.number, fcntl.F_GETFL)
        flags = flags | os.O_APPEND if append else flags & ~os.O_APPEND
        fcntl.fcntl(opened.descriptor.number, fcntl.F_SETFL, flags)
        opened.append = append

    def fsync(self, file: int, datasync: bool = False) -> None:
        """See `Files`."""
        opened = self._file(file)
        (os.fdatasync if datasync else os.fsync)(opened.descriptor.number)

    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None:
        """See `Files`."""
        opened = self._file(file)
        fallocate(opened.descriptor.number, mode, offset, length)

    def lseek(self, file: int, offset: int, whence: int) -> int:
        """See `Files`."""
        if whence not in {os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE}:
            raise failure(errno.EINVAL)
        opened = self._file(file)
        return os.lseek(opened.descriptor.number, offset, whence)

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, size: int
    ) -> int:
        """See `Files`."""
        here, there = self._file(source), self._file(target)
        return os.copy_file_range(
            here.descriptor.number, there.descriptor.number, size, source_offset, target_offset
        )

    def descriptor(self, file: int) -> int | None:
        """See `Files`."""
        opened = self._file(file)
        return opened.descriptor.number

    # directories

    def opendir(self, caller: Caller, node: int) -> int:  # noqa: ARG002
        """See `Files`."""
        found = self._nodes.get(node)
        if found.kind != stat.S_IFDIR:
            raise failure(errno.ENOTDIR)
        if found.virtual:
            descriptor = self._retry(lambda: os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        else:
            path = self._nodes.anchor(found).path
            descriptor = self._retry(lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return self._enroll(OpenedDirectory(found, Descriptor(descriptor)))

    def _open_directory(self, file: int) -> OpenedDirectory:
        opened = self._file(file)
        if not isinstance(opened, OpenedDirectory):
            raise failure(errno.ENOTDIR)
        return opened

    def readdir(self, file: int, cookie: int, limit: int = 512) -> Sequence[DirectoryEntry]:
        """See `Files`."""
        opened = self._open_directory(file)
        if opened.node.virtual:
            return self._virtual_listing(opened.node)[cookie : cookie + limit]
        number = opened.descriptor.number
        with opened.lock:
            if cookie != opened.position:
                os.lseek(number, cookie, os.SEEK_SET)
            found = getdents(number, max(_LONGEST, 64 * min(limit, 512)))
            opened.position = found[-1].cookie if found else cookie
        return [DirectoryEntry(*entry) for entry in found]

    @staticmethod
    def _virtual_listing(node: Node) -> list[DirectoryEntry]:
        names = [b".", b"..", *(node.point.children if node.point is not None else ())]
        return [DirectoryEntry(name, node.number, _DT_DIR, index) for index, name in enumerate(names, 1)]

    def readdirplus(
        self, caller: Caller, file: int, cookie: int, limit: int = 512  # noqa: ARG002
    ) -> Sequence[EntryPlus]:
        """See `Files`."""
        directory = self._open_directory(file).node
        listing = self.readdir(file, cookie, limit)
        return [EntryPlus(listed, self._try(directory, listed.name)) for listed in listing]

    def _try(self, directory: Node, name: bytes) -> Entry | None:
        if name in {b".", b".."}:
            return None
        try:
            return self._find(directory, name)
        except OSError:
            return None

    def releasedir(self, file: int) -> None:
        """See `Files`."""
        self._opened.pop(file, None)

    def fsyncdir(self, file: int, datasync: bool = False) -> None:
        """See `Files`."""
        opened = self._open_directory(file)
        if not opened.node.virtual:
            (os.fdatasync if datasync else os.fsync)(opened.descriptor.number)
