"""`Files` as an SFTP subsystem, so that any `sftp` or `sshfs` reaches them.

The tree of the `Files` is the whole world of such a client: absolute paths and the targets of symbolic
links begin at its root. SFTP version 3 is what the protocol is: no inode numbers, whole seconds, one errno
for many, no locks; who needs more mounts oMFS. Every method of asyncssh's server that touches files is
replaced here, for its own ones work on the machine's file system.

Source: draft-ietf-secsh-filexfer-02, and PROTOCOL of OpenSSH for its extensions.
"""

# What is refused outright does not look at its arguments.
# ruff: noqa: ARG002

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from asyncssh import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    SFTPAttrs,
    SFTPName,
    SFTPOpUnsupported,
    SFTPServer,
    SFTPVFSAttrs,
    SSHServerChannel,
)

from omtools.omfs.nodes import failure
from omtools.omfs.operations import (
    MAX_OFFSET,
    ROOT,
    Attributes,
    Caller,
    Changes,
    Created,
    EntryPlus,
    Files,
    FileSystem,
)

_T = TypeVar("_T")

_LINKS = 40  # MAXSYMLINKS of linux/namei.h
_RENAME_NOREPLACE = 1  # linux/fs.h
_UMASK = 0o022
_THREADS = 8  # so many of a client's requests at once


@dataclass(frozen=True)
class _Step:
    """One step of the way to a file: the root, or a name below it."""

    node: int
    name: bytes = b""
    attributes: Attributes | None = None


@dataclass(frozen=True)
class _Open:
    """An open file, and its node, which is held meanwhile."""

    file: int
    node: int

    def seek(self, offset: int, whence: int) -> int:
        """Where data and holes begin, as asyncssh asks for its extension that saves the sending of holes.

        It asks on its event loop, where nothing may block; so all is data.
        """
        return offset if whence == os.SEEK_DATA else MAX_OFFSET


def attributes_of(attributes: Attributes) -> SFTPAttrs:
    """As SFTP has them."""
    return SFTPAttrs(
        size=attributes.size, uid=attributes.uid, gid=attributes.gid, permissions=attributes.mode,
        atime=attributes.atime_ns // 10**9, mtime=attributes.mtime_ns // 10**9, nlink=attributes.nlink,
    )  # fmt: skip


def changes_of(attrs: SFTPAttrs) -> Changes:
    """What a client wants changed."""
    return Changes(
        mode=None if attrs.permissions is None else stat.S_IMODE(attrs.permissions),
        uid=attrs.uid,
        gid=attrs.gid,
        size=attrs.size,
        atime_ns=None if attrs.atime is None else attrs.atime * 10**9 + (attrs.atime_ns or 0),
        mtime_ns=None if attrs.mtime is None else attrs.mtime * 10**9 + (attrs.mtime_ns or 0),
    )


def flags_of(pflags: int) -> int:
    """Flags of open(2) for those of SFTP."""
    flags = os.O_RDWR if pflags & FXF_READ and pflags & FXF_WRITE else 0
    if not flags:
        flags = os.O_WRONLY if pflags & FXF_WRITE else os.O_RDONLY
    for theirs, ours in (
        (FXF_APPEND, os.O_APPEND), (FXF_CREAT, os.O_CREAT), (FXF_TRUNC, os.O_TRUNC), (FXF_EXCL, os.O_EXCL),
    ):  # fmt: skip
        if pflags & theirs:
            flags |= ours
    return flags


class _Paths:
    """Paths, which SFTP speaks, over nodes, which `Files` speak. All of it blocks.

    Args:
        files: where they lead.
        start: the directory that other than absolute ones begin at; where it cannot be reached, the root.
    """

    def __init__(self, files: Files, start: bytes) -> None:
        self.files = files
        self._start: bytes | None = start
        self._begin = b"/"
        self.caller = Caller(0, _UMASK)

    def _let_go(self, steps: list[_Step]) -> None:
        self.files.forget([(step.node, 1) for step in steps if step.node != ROOT])

    def _from_start(self) -> bytes:
        """Where paths begin, with a slash at the end."""
        start, self._start = self._start, None
        if start is not None:
            with contextlib.suppress(OSError), self.way(b"/" + start) as (steps, _name):
                if all(stat.S_ISDIR(step.attributes.mode) for step in steps[1:] if step.attributes):
                    self._begin = b"/" + start.strip(b"/") + b"/"
        return self._begin

    @contextlib.contextmanager
    def way(
        self, path: bytes, *, follow: bool = True, missing: bool = False
    ) -> Iterator[tuple[list[_Step], bytes]]:
        """The steps to a path, held for the moment.

        Args:
            path: one that is not absolute begins where the client does.
            follow: where it ends in a symbolic link, go where that leads.
            missing: the last name need not be there.

        Yields:
            The steps, and the last name if it is missing.
        """
        steps = [_Step(ROOT)]
        if not path.startswith(b"/"):
            path = self._from_start() + path
        ahead = path.split(b"/")[::-1]
        links = 0
        try:
            while ahead:
                name = ahead.pop()
                if name in {b"", b"."}:
                    continue
                if name == b"..":
                    if len(steps) > 1:
                        self._let_go([steps.pop()])
                    continue
                try:
                    entry = self.files.lookup(self.caller, steps[-1].node, name)
                except FileNotFoundError:
                    if not missing or any(ahead):
                        raise
                    yield steps, name
                    return
                steps.append(_Step(entry.node, name, entry.attributes))
                if stat.S_ISLNK(entry.attributes.mode) and (follow or ahead):
                    links += 1
                    if links > _LINKS:
                        raise failure(errno.ELOOP)
                    target = self.files.readlink(self.caller, entry.node)
                    keep = 1 if target.startswith(b"/") else len(steps) - 1
                    self._let_go(steps[keep:])
                    del steps[keep:]
                    ahead += target.split(b"/")[::-1]
            yield steps, b""
        finally:
            self._let_go(steps)

    @contextlib.contextmanager
    def node(self, path: bytes, follow: bool = True) -> Iterator[int]:
        """The node of a path."""
        with self.way(path, follow=follow) as (steps, _name):
            yield steps[-1].node

    @contextlib.contextmanager
    def place(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The directory that a path's last name is in, and that name, which may be there or not."""
        above, _slash, name = path.rstrip(b"/").rpartition(b"/")
        if name in {b"", b".", b".."}:
            raise failure(errno.EBUSY)
        with self.node(above) as directory:
            yield directory, name

    def attributes(self, path: bytes, follow: bool) -> SFTPAttrs:
        with self.node(path, follow) as node:
            return attributes_of(self.files.getattr(self.caller, node))

    def change(self, path: bytes, attrs: SFTPAttrs, follow: bool) -> None:
        with self.node(path, follow) as node:
            if (changes := changes_of(attrs)) != Changes():
                self.files.setattr(self.caller, node, changes)

    def open(self, path: bytes, flags: int, mode: int) -> _Open:
        exclusive = bool(flags & os.O_EXCL)
        creates = bool(flags & os.O_CREAT)
        with self.way(path, follow=not (creates and exclusive), missing=creates) as (steps, name):
            if name:
                made: Created = self.files.create(self.caller, steps[-1].node, name, flags, mode)
                return _Open(made.file, made.entry.node)
            if creates and exclusive:
                raise failure(errno.EEXIST)
            file = self.files.open(self.caller, steps[-1].node, flags & ~os.O_CREAT)
            last = steps.pop()  # it stays held
            return _Open(file, last.node)

    def close(self, opened: _Open) -> None:
        try:
            self.files.flush(opened.file)
        finally:
            self.files.release(opened.file)
            if opened.node != ROOT:
                self.files.forget([(opened.node, 1)])

    def write(self, opened: _Open, offset: int, data: bytes) -> int:
        done = 0
        while done < len(data):
            done += self.files.write(opened.file, offset + done, memoryview(data)[done:])
        return done

    def listing(self, path: bytes) -> Generator[list[SFTPName], None, None]:
        with self.node(path) as node:
            own = attributes_of(self.files.getattr(self.caller, node))
            directory = self.files.opendir(self.caller, node)
            try:
                cookie = 0
                while found := self.files.readdirplus(self.caller, directory, cookie):
                    cookie = found[-1].listed.cookie
                    self.files.forget([(one.entry.node, 1) for one in found if one.entry is not None])
                    yield [_named(one, own) for one in found]
            finally:
                self.files.releasedir(directory)

    def real(self, path: bytes) -> bytes:
        with self.way(path, missing=True) as (steps, name):
            names = [step.name for step in steps[1:]] + ([name] if name else [])
            return b"/" + b"/".join(names)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        with self.place(old) as (at, name), self.place(new) as (to, new_name):
            self.files.rename(self.caller, at, name, to, new_name, flags=flags)

    def remove(self, path: bytes, remove: Callable[[Caller, int, bytes], None]) -> None:
        with self.place(path) as (at, name):
            remove(self.caller, at, name)

    def made(self, path: bytes, make: Callable[[int, bytes], int]) -> None:
        """Make something at a path; `make` gets the directory and the name, and gives the new node."""
        with self.place(path) as (at, name):
            self.files.forget([(make(at, name), 1)])

    def mkdir(self, path: bytes, mode: int) -> None:
        self.made(path, lambda at, name: self.files.mkdir(self.caller, at, name, mode).node)

    def symlink(self, target: bytes, path: bytes) -> None:
        self.made(path, lambda at, name: self.files.symlink(self.caller, at, name, target).node)

    def link(self, old: bytes, path: bytes) -> None:
        with self.node(old, False) as node:
            self.made(path, lambda at, name: self.files.link(self.caller, node, at, name).node)

    def readlink(self, path: bytes) -> bytes:
        with self.node(path, False) as node:
            return self.files.readlink(self.caller, node)

    def statvfs(self, path: bytes) -> SFTPVFSAttrs:
        with self.node(path) as node:
            return _file_system(self.files.statfs(self.caller, node))


def _named(one: EntryPlus, otherwise: SFTPAttrs) -> SFTPName:
    attrs = otherwise if one.entry is None else attributes_of(one.entry.attributes)
    return SFTPName(one.listed.name, attrs=attrs)


def _file_system(told: FileSystem) -> SFTPVFSAttrs:
    return SFTPVFSAttrs(
        bsize=told.bsize, frsize=told.frsize, blocks=told.blocks, bfree=told.bfree, bavail=told.bavail,
        files=told.files, ffree=told.ffree, favail=told.favail, flags=told.flag, namemax=told.namemax,
    )  # fmt: skip


class FilesServer(SFTPServer):
    """One client's SFTP session: for `sftp_factory` of asyncssh's listen.

    Args:
        chan: the client's channel.
        files: with the rights of the client's user. They are not closed at the session's end.
        start: the directory that the client begins in, if it can be reached.
    """

    def __init__(self, chan: SSHServerChannel[bytes], files: Files, start: bytes = b"/") -> None:
        super().__init__(chan)
        self._paths = _Paths(files, start)
        self._open: set[_Open] = set()
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "sftp")

    async def _away(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """Do what blocks where it blocks nobody but this client."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    @staticmethod
    def _opened(file_obj: object) -> _Open:
        if not isinstance(file_obj, _Open):
            raise failure(errno.EBADF)
        return file_obj

    def map_path(self, path: bytes) -> NoReturn:
        """No path of a client is one of this machine."""
        raise failure(errno.EACCES)

    def reverse_map_path(self, path: bytes) -> NoReturn:
        """Likewise."""
        raise failure(errno.EACCES)

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        """Open or make a file."""
        mode = 0o666 if attrs.permissions is None else stat.S_IMODE(attrs.permissions)
        opened = await self._away(self._paths.open, path, flags_of(pflags), mode)
        self._open.add(opened)
        return opened

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: SFTPAttrs) -> NoReturn:
        """Of later versions of the protocol."""
        raise SFTPOpUnsupported("only version 3 is spoken")

    async def close(self, file_obj: object) -> None:
        """End an open file."""
        opened = self._opened(file_obj)
        self._open.discard(opened)
        await self._away(self._paths.close, opened)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read; nothing at the end of the file."""
        return await self._away(self._paths.files.read, self._opened(file_obj).file, offset, size)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write all of it."""
        return await self._away(self._paths.write, self._opened(file_obj), offset, data)

    async def lstat(self, path: bytes) -> SFTPAttrs:
        """Attributes, of a symbolic link itself."""
        return await self._away(self._paths.attributes, path, False)

    async def stat(self, path: bytes) -> SFTPAttrs:
        """Attributes."""
        return await self._away(self._paths.attributes, path, True)

    async def fstat(self, file_obj: object) -> SFTPAttrs:
        """Attributes of an open file."""
        opened, paths = self._opened(file_obj), self._paths
        return attributes_of(await self._away(paths.files.getattr, paths.caller, opened.node, opened.file))

    async def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Change attributes."""
        await self._away(self._paths.change, path, attrs, True)

    async def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Change attributes, of a symbolic link itself."""
        await self._away(self._paths.change, path, attrs, False)

    async def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Change attributes of an open file."""
        opened, paths = self._opened(file_obj), self._paths
        if (changes := changes_of(attrs)) != Changes():
            await self._away(paths.files.setattr, paths.caller, opened.node, changes, opened.file)

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """Names with attributes."""
        listing = self._paths.listing(path)
        try:
            while names := await self._away(next, listing, None):
                for name in names:
                    yield name
        finally:
            await self._away(listing.close)

    async def remove(self, path: bytes) -> None:
        """Remove what is no directory."""
        await self._away(self._paths.remove, path, self._paths.files.unlink)

    async def rmdir(self, path: bytes) -> None:
        """Remove an empty directory."""
        await self._away(self._paths.remove, path, self._paths.files.rmdir)

    async def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Make a directory."""
        mode = 0o777 if attrs.permissions is None else stat.S_IMODE(attrs.permissions)
        await self._away(self._paths.mkdir, path, mode)

    async def realpath(self, path: bytes) -> bytes:
        """The path without symbolic links and dots; the last name need not be there."""
        return await self._away(self._paths.real, path)

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename to a name that must not be there."""
        await self._away(self._paths.rename, oldpath, newpath, _RENAME_NOREPLACE)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename as rename(2) does."""
        await self._away(self._paths.rename, oldpath, newpath, 0)

    async def readlink(self, path: bytes) -> bytes:
        """Where a symbolic link leads, as it is written there."""
        return await self._away(self._paths.readlink, path)

    async def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a symbolic link."""
        await self._away(self._paths.symlink, oldpath, newpath)

    async def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a hard link."""
        await self._away(self._paths.link, oldpath, newpath)

    def lock(self, file_obj: object, offset: int, length: int, flags: int) -> NoReturn:
        """Of later versions of the protocol."""
        raise SFTPOpUnsupported("only version 3 is spoken")

    def unlock(self, file_obj: object, offset: int, length: int) -> NoReturn:
        """Likewise."""
        raise SFTPOpUnsupported("only version 3 is spoken")

    async def statvfs(self, path: bytes) -> SFTPVFSAttrs:
        """About the file system."""
        return await self._away(self._paths.statvfs, path)

    async def fstatvfs(self, file_obj: object) -> SFTPVFSAttrs:
        """About the file system of an open file."""
        opened, paths = self._opened(file_obj), self._paths
        return _file_system(await self._away(paths.files.statfs, paths.caller, opened.node))

    async def fsync(self, file_obj: object) -> None:
        """Bring it to the disk."""
        await self._away(self._paths.files.fsync, self._opened(file_obj).file)

    async def exit(self) -> None:
        """The client has left: what it left open ends."""
        while self._open:
            with contextlib.suppress(OSError):
                await self._away(self._paths.close, self._open.pop())
        self._threads.shutdown(wait=False)
