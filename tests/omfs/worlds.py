"""The same operations by path on three worlds: os.* on a directory, and `Files` of two kinds."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from omfs.support import find
from omtools.linux.files import Rename, fallocate, renameat2
from omtools.omfs.operations import NOBODY, ROOT, Attributes, Caller, Changes, Files

Path = tuple[bytes, ...]
"""Names from the top down."""


class Seen(NamedTuple):
    """What of an inode must be the same everywhere."""

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int


def _seen(told: os.stat_result | Attributes) -> Seen:
    if isinstance(told, Attributes):
        mode, nlink, uid, gid, size = told.mode, told.nlink, told.uid, told.gid, told.size
    else:
        mode, nlink, uid, gid, size = told.st_mode, told.st_nlink, told.st_uid, told.st_gid, told.st_size
    return Seen(mode, nlink, uid, gid, 0 if stat.S_ISDIR(mode) else size)


class World(Protocol):
    """Operations by path; open files by number."""

    def mkdir(self, path: Path, mode: int, umask: int) -> Any: ...
    def mknod(self, path: Path, mode: int, umask: int) -> Any: ...
    def symlink(self, path: Path, target: bytes) -> Any: ...
    def link(self, path: Path, new: Path) -> Any: ...
    def unlink(self, path: Path) -> Any: ...
    def rmdir(self, path: Path) -> Any: ...
    def rename(self, path: Path, new: Path, flags: int) -> Any: ...
    def stat(self, path: Path) -> Any: ...
    def readlink(self, path: Path) -> Any: ...
    def listdir(self, path: Path) -> Any: ...
    def change(self, path: Path, changes: Changes) -> Any: ...
    def setxattr(self, path: Path, name: bytes, value: bytes, flags: int) -> Any: ...
    def xattrs(self, path: Path) -> Any: ...
    def removexattr(self, path: Path, name: bytes) -> Any: ...
    def access(self, path: Path, mask: int) -> Any: ...
    def open(self, path: Path, flags: int, number: int) -> Any: ...
    def create(self, path: Path, flags: int, mode: int, umask: int, number: int) -> Any: ...
    def read(self, number: int, offset: int, size: int) -> Any: ...
    def write(self, number: int, offset: int, data: bytes) -> Any: ...
    def fstat(self, number: int) -> Any: ...
    def ftruncate(self, number: int, size: int) -> Any: ...
    def fallocate(self, number: int, mode: int, offset: int, length: int) -> Any: ...
    def seek(self, number: int, offset: int, whence: int) -> Any: ...
    def copy(self, number: int, offset: int, target: int, at: int, size: int) -> Any: ...
    def sync(self, number: int) -> Any: ...
    def close(self, number: int) -> Any: ...


@contextlib.contextmanager
def _umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


class Plain:
    """A directory, by system calls; nothing on the way to the last name is followed."""

    def __init__(self, top: str) -> None:
        self._top = top
        self.opened: dict[int, int] = {}

    @contextlib.contextmanager
    def _at(self, path: Path) -> Iterator[tuple[int, bytes]]:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
        at = os.open(self._top, flags)
        try:
            for name in path[:-1]:
                before = at
                at = os.open(name, flags, dir_fd=before)
                os.close(before)
            yield at, path[-1]
        finally:
            os.close(at)

    @contextlib.contextmanager
    def _on(self, path: Path) -> Iterator[str]:
        with self._at(path) as (at, name):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=at)
            try:
                yield f"/proc/self/fd/{fd}"
            finally:
                os.close(fd)

    def mkdir(self, path: Path, mode: int, umask: int) -> Any:
        with self._at(path) as (at, name), _umask(umask):
            os.mkdir(name, mode, dir_fd=at)
        return self.stat(path)

    def mknod(self, path: Path, mode: int, umask: int) -> Any:
        with self._at(path) as (at, name), _umask(umask):
            os.mknod(name, mode, dir_fd=at)
        return self.stat(path)

    def symlink(self, path: Path, target: bytes) -> Any:
        with self._at(path) as (at, name):
            os.symlink(target, name, dir_fd=at)
        return self.stat(path)

    def link(self, path: Path, new: Path) -> Any:
        with self._at(path) as (at, name), self._at(new) as (to, other):
            os.link(name, other, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)
        return self.stat(new)

    def unlink(self, path: Path) -> Any:
        with self._at(path) as (at, name):
            os.unlink(name, dir_fd=at)

    def rmdir(self, path: Path) -> Any:
        with self._at(path) as (at, name):
            os.rmdir(name, dir_fd=at)

    def rename(self, path: Path, new: Path, flags: int) -> Any:
        with self._at(path) as (at, name), self._at(new) as (to, other):
            renameat2(at, name, to, other, Rename(flags))

    def stat(self, path: Path) -> Any:
        with self._at(path) as (at, name):
            return _seen(os.stat(name, dir_fd=at, follow_symlinks=False))

    def readlink(self, path: Path) -> Any:
        with self._at(path) as (at, name):
            return os.readlink(name, dir_fd=at)

    def listdir(self, path: Path) -> Any:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        with self._at(path) as (at, name):
            fd = os.open(name, flags, dir_fd=at)
            try:
                return sorted(map(os.fsencode, os.listdir(fd)))
            finally:
                os.close(fd)

    def change(self, path: Path, changes: Changes) -> Any:
        with self._on(path) as way:
            if changes.mode is not None:
                os.chmod(way, changes.mode)
            if changes.size is not None:
                os.truncate(way, changes.size)
            if changes.uid is not None:
                os.chown(way, changes.uid, -1)
            if changes.atime_ns is not None and changes.mtime_ns is not None:
                os.utime(way, ns=(changes.atime_ns, changes.mtime_ns))
                return os.stat(way).st_mtime_ns
        return self.stat(path)

    def setxattr(self, path: Path, name: bytes, value: bytes, flags: int) -> Any:
        with self._on(path) as way:
            os.setxattr(way, name, value, flags)

    def xattrs(self, path: Path) -> Any:
        with self._on(path) as way:
            return {name.encode(): os.getxattr(way, name) for name in os.listxattr(way)}

    def removexattr(self, path: Path, name: bytes) -> Any:
        with self._on(path) as way:
            os.removexattr(way, name)

    def access(self, path: Path, mask: int) -> Any:
        with self._on(path) as way:
            return os.access(way, mask)

    def open(self, path: Path, flags: int, number: int) -> Any:
        with self._at(path) as (at, name):
            self.opened[number] = os.open(name, flags | os.O_NOFOLLOW, dir_fd=at)

    def create(self, path: Path, flags: int, mode: int, umask: int, number: int) -> Any:
        with self._at(path) as (at, name), _umask(umask):
            self.opened[number] = os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, mode, dir_fd=at)
        return self.fstat(number)

    def read(self, number: int, offset: int, size: int) -> Any:
        return os.pread(self.opened[number], size, offset)

    def write(self, number: int, offset: int, data: bytes) -> Any:
        return os.pwrite(self.opened[number], data, offset)

    def fstat(self, number: int) -> Any:
        return _seen(os.fstat(self.opened[number]))

    def ftruncate(self, number: int, size: int) -> Any:
        os.ftruncate(self.opened[number], size)

    def fallocate(self, number: int, mode: int, offset: int, length: int) -> Any:
        fallocate(self.opened[number], mode, offset, length)

    def seek(self, number: int, offset: int, whence: int) -> Any:
        return os.lseek(self.opened[number], offset, whence)

    def copy(self, number: int, offset: int, target: int, at: int, size: int) -> Any:
        return os.copy_file_range(self.opened[number], self.opened[target], size, offset, at)

    def sync(self, number: int) -> Any:
        os.fsync(self.opened[number])

    def close(self, number: int) -> Any:
        os.close(self.opened.pop(number))


class Served:
    """The same through `Files`, as an adapter would do it."""

    def __init__(self, files: Files, prefix: bytes = b"") -> None:
        self.files = files
        self._prefix = prefix
        self.opened: dict[int, tuple[int, int]] = {}

    @contextlib.contextmanager
    def _on(self, path: Path) -> Iterator[int]:
        node = find(self.files, b"/".join((self._prefix, *path))).node
        try:
            yield node
        finally:
            self._forget(node)

    @contextlib.contextmanager
    def _at(self, path: Path) -> Iterator[int]:
        """A directory, as the kernel's own walk wants it."""
        with self._on(path) as node:
            if not stat.S_ISDIR(self.files.getattr(NOBODY, node).mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            yield node

    def _forget(self, node: int) -> None:
        if node != ROOT:
            self.files.forget([(node, 1)])

    def _made(self, entry: Any) -> Seen:
        self._forget(entry.node)
        return _seen(entry.attributes)

    def mkdir(self, path: Path, mode: int, umask: int) -> Any:
        with self._at(path[:-1]) as at:
            return self._made(self.files.mkdir(Caller(0, umask), at, path[-1], mode))

    def mknod(self, path: Path, mode: int, umask: int) -> Any:
        with self._at(path[:-1]) as at:
            return self._made(self.files.mknod(Caller(0, umask), at, path[-1], mode, 0))

    def symlink(self, path: Path, target: bytes) -> Any:
        with self._at(path[:-1]) as at:
            return self._made(self.files.symlink(NOBODY, at, path[-1], target))

    def link(self, path: Path, new: Path) -> Any:
        with self._at(path[:-1]), self._at(new[:-1]) as to, self._on(path) as node:
            return self._made(self.files.link(NOBODY, node, to, new[-1]))

    def unlink(self, path: Path) -> Any:
        with self._at(path[:-1]) as at:
            self.files.unlink(NOBODY, at, path[-1])

    def rmdir(self, path: Path) -> Any:
        with self._at(path[:-1]) as at:
            self.files.rmdir(NOBODY, at, path[-1])

    def rename(self, path: Path, new: Path, flags: int) -> Any:
        with self._at(path[:-1]) as at, self._at(new[:-1]) as to:
            self.files.rename(NOBODY, at, path[-1], to, new[-1], flags=flags)

    def stat(self, path: Path) -> Any:
        with self._on(path) as node:
            return _seen(self.files.getattr(NOBODY, node))

    def readlink(self, path: Path) -> Any:
        with self._on(path) as node:
            return self.files.readlink(NOBODY, node)

    def listdir(self, path: Path) -> Any:
        with self._on(path) as node:
            file = self.files.opendir(NOBODY, node)
        names: list[bytes] = []
        plus: list[bytes] = []
        cookie = 0
        while found := self.files.readdir(file, cookie, 3):
            names += [entry.name for entry in found]
            cookie = found[-1].cookie
        cookie = 0
        while more := self.files.readdirplus(NOBODY, file, cookie, 3):
            plus += [entry.listed.name for entry in more]
            cookie = more[-1].listed.cookie
            for entry in more:
                if entry.entry is not None:
                    self._forget(entry.entry.node)
        self.files.releasedir(file)
        assert names == plus
        return sorted(set(names) - {b".", b".."})

    def change(self, path: Path, changes: Changes) -> Any:
        with self._on(path) as node:
            told = self.files.setattr(NOBODY, node, changes)
        if changes.atime_ns is not None and changes.mtime_ns is not None:
            return told.mtime_ns
        return _seen(told)

    def setxattr(self, path: Path, name: bytes, value: bytes, flags: int) -> Any:
        with self._on(path) as node:
            self.files.setxattr(NOBODY, node, name, value, flags)

    def xattrs(self, path: Path) -> Any:
        with self._on(path) as node:
            names = self.files.listxattr(NOBODY, node)
            return {name: self.files.getxattr(NOBODY, node, name) for name in names}

    def removexattr(self, path: Path, name: bytes) -> Any:
        with self._on(path) as node:
            self.files.removexattr(NOBODY, node, name)

    def access(self, path: Path, mask: int) -> Any:
        with self._on(path) as node:
            try:
                self.files.access(NOBODY, node, mask)
            except PermissionError:
                return False
            return True

    def open(self, path: Path, flags: int, number: int) -> Any:
        node = find(self.files, b"/".join((self._prefix, *path))).node
        try:
            self.opened[number] = node, self.files.open(NOBODY, node, flags)
        except OSError:
            self._forget(node)
            raise

    def create(self, path: Path, flags: int, mode: int, umask: int, number: int) -> Any:
        with self._at(path[:-1]) as at:
            entry, file = self.files.create(Caller(0, umask), at, path[-1], flags | os.O_CREAT, mode)
        self.opened[number] = entry.node, file
        assert _seen(entry.attributes).mode == self.fstat(number).mode
        return self.fstat(number)

    def read(self, number: int, offset: int, size: int) -> Any:
        file = self.opened[number][1]
        buffer = bytearray(size)
        count = self.files.read_into(file, offset, memoryview(buffer))
        assert self.files.read(file, offset, size) == bytes(buffer[:count])
        return bytes(buffer[:count])

    def write(self, number: int, offset: int, data: bytes) -> Any:
        return self.files.write(self.opened[number][1], offset, data)

    def fstat(self, number: int) -> Any:
        node, file = self.opened[number]
        by_file = _seen(self.files.getattr(NOBODY, node, file))
        assert by_file == _seen(self.files.getattr(NOBODY, node))
        return by_file

    def ftruncate(self, number: int, size: int) -> Any:
        node, file = self.opened[number]
        self.files.setattr(NOBODY, node, Changes(size=size), file)

    def fallocate(self, number: int, mode: int, offset: int, length: int) -> Any:
        self.files.fallocate(self.opened[number][1], mode, offset, length)

    def seek(self, number: int, offset: int, whence: int) -> Any:
        return self.files.lseek(self.opened[number][1], offset, whence)

    def copy(self, number: int, offset: int, target: int, at: int, size: int) -> Any:
        return self.files.copy_file_range(self.opened[number][1], offset, self.opened[target][1], at, size)

    def sync(self, number: int) -> Any:
        self.files.fsync(self.opened[number][1])

    def close(self, number: int) -> Any:
        node, file = self.opened.pop(number)
        self.files.flush(file)
        self.files.release(file)
        self._forget(node)
