"""From a request's bytes to a handler's method, and from what that returns to the reply's bytes. No I/O."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Opcode
from omtools.linux.fuse.handler import Buffer, Cancellation, Directory, Handler, Request, pack_entry

Reply = Buffer | None
Valid = tuple[int, int, int, int]
"""Seconds of an entry, of attributes, then the nanoseconds of both: as struct fuse_entry_out has them."""


def valid_for(handler: Handler) -> Valid:
    """How long the kernel may believe what this handler says."""
    entry, attributes = int(handler.entry_valid * 1e9), int(handler.attributes_valid * 1e9)
    billion = 1_000_000_000
    return (entry // billion, attributes // billion, entry % billion, attributes % billion)


class Dispatcher:
    """Calls the methods of one handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._valid = valid_for(handler)
        self._setxattr_ext = False
        self.table: dict[int, Callable[[Request], Reply]] = {
            opcode: getattr(self, "_" + opcode.name.lower()) for opcode in _ANSWERED
        }

    def agreed(self, flags: abi.Init) -> None:
        """INIT is over: some structures depend on it."""
        self._setxattr_ext = abi.Init.SETXATTR_EXT in flags

    def __call__(self, request: Request) -> Reply:
        """The reply's payload; raises OSError for an error, anything else for a broken handler or request."""
        method = self.table.get(request.opcode)
        if method is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return method(request)

    def blocking(self, request: Request, cancellation: Cancellation) -> None:
        """SETLKW, the one request that waits by its nature."""
        self._handler.setlkw(request, _lock_in(request), cancellation)

    def forget(self, request: Request) -> None:
        """FORGET and BATCH_FORGET, which have no reply."""
        if request.opcode == Opcode.FORGET:
            self._handler.forget(request.node, abi.FORGET_IN.unpack_from(request.body)[0])
            return
        count, _dummy = abi.BATCH_FORGET_IN.unpack_from(request.body)
        size = abi.FORGET_ONE.size
        body = request.body[abi.BATCH_FORGET_IN.size :][: count * size]
        self._handler.forget_many(list(abi.FORGET_ONE.iter_unpack(body[: len(body) // size * size])))

    def _entry(self, entry: abi.Entry) -> bytes:
        return pack_entry(entry, self._valid)

    def _attributes(self, attributes: abi.Attributes) -> bytes:
        return abi.ATTR_OUT.pack(self._valid[1], self._valid[3], 0, *attributes.packed())

    def _lookup(self, request: Request) -> Reply:
        return self._entry(self._handler.lookup(request, _name(request.body)))

    def _getattr(self, request: Request) -> Reply:
        flags, fh = abi.GETATTR_IN.unpack_from(request.body)
        return self._attributes(self._handler.getattr(request, fh if flags & abi.GETATTR_FH else None))

    def _setattr(self, request: Request) -> Reply:
        change = abi.SetattrIn._make(abi.SETATTR_IN.unpack_from(request.body))
        return self._attributes(self._handler.setattr(request, change))

    def _readlink(self, request: Request) -> Reply:
        return self._handler.readlink(request)

    def _symlink(self, request: Request) -> Reply:
        name, target = _names(request.body)
        return self._entry(self._handler.symlink(request, name, target))

    def _mknod(self, request: Request) -> Reply:
        mode, device, umask = abi.MKNOD_IN.unpack_from(request.body)
        name = _name(request.body[abi.MKNOD_IN.size :])
        device = abi.device_from_wire(device)
        return self._entry(self._handler.mknod(request, name, mode, device, umask))

    def _mkdir(self, request: Request) -> Reply:
        mode, umask = abi.MKDIR_IN.unpack_from(request.body)
        name = _name(request.body[abi.MKDIR_IN.size :])
        return self._entry(self._handler.mkdir(request, name, mode, umask))

    def _unlink(self, request: Request) -> None:
        self._handler.unlink(request, _name(request.body))

    def _rmdir(self, request: Request) -> None:
        self._handler.rmdir(request, _name(request.body))

    def _rename(self, request: Request) -> None:
        (directory,) = abi.RENAME_IN.unpack_from(request.body)
        name, new = _names(request.body[abi.RENAME_IN.size :])
        self._handler.rename(request, name, directory, new, 0)

    def _rename2(self, request: Request) -> None:
        directory, flags = abi.RENAME2_IN.unpack_from(request.body)
        name, new = _names(request.body[abi.RENAME2_IN.size :])
        self._handler.rename(request, name, directory, new, flags)

    def _link(self, request: Request) -> Reply:
        (node,) = abi.LINK_IN.unpack_from(request.body)
        return self._entry(self._handler.link(request, node, _name(request.body[abi.LINK_IN.size :])))

    def _open(self, request: Request) -> Reply:
        flags, open_flags = abi.OPEN_IN.unpack_from(request.body)
        return _opened(self._handler.open(request, flags, bool(open_flags & abi.OPEN_KILL_SUIDGID)))

    def _create(self, request: Request) -> Reply:
        flags, mode, umask, open_flags = abi.CREATE_IN.unpack_from(request.body)
        name = _name(request.body[abi.CREATE_IN.size :])
        kill = bool(open_flags & abi.OPEN_KILL_SUIDGID)
        entry, opened = self._handler.create(request, name, flags, mode, umask, kill)
        return self._entry(entry) + _opened(opened)

    def _tmpfile(self, request: Request) -> Reply:
        flags, mode, umask, _open_flags = abi.CREATE_IN.unpack_from(request.body)
        entry, opened = self._handler.tmpfile(request, flags, mode, umask)
        return self._entry(entry) + _opened(opened)

    def _read(self, request: Request) -> Reply:
        asked = abi.ReadIn._make(abi.READ_IN.unpack_from(request.body))
        got = self._handler.read(request, asked)
        return request.room[:got] if isinstance(got, int) else got

    def _write(self, request: Request) -> Reply:
        asked = abi.WriteIn._make(abi.WRITE_IN.unpack_from(request.body))
        return abi.WRITE_OUT.pack(self._handler.write(request, asked, request.body[abi.WRITE_IN.size :]))

    def _statfs(self, request: Request) -> Reply:
        return abi.STATFS_OUT.pack(*self._handler.statfs(request))

    def _flush(self, request: Request) -> None:
        self._handler.flush(request, *abi.FLUSH_IN.unpack_from(request.body))

    def _release(self, request: Request) -> None:
        self._handler.release(request, abi.ReleaseIn._make(abi.RELEASE_IN.unpack_from(request.body)))

    def _fsync(self, request: Request) -> None:
        fh, flags = abi.FSYNC_IN.unpack_from(request.body)
        self._handler.fsync(request, fh, bool(flags & abi.FSYNC_FDATASYNC))

    def _opendir(self, request: Request) -> Reply:
        return _opened(self._handler.opendir(request, abi.OPEN_IN.unpack_from(request.body)[0]))

    def _readdir(self, request: Request) -> Reply:
        return self._list(request, False)

    def _readdirplus(self, request: Request) -> Reply:
        return self._list(request, True)

    def _list(self, request: Request, plus: bool) -> Reply:
        asked = abi.ReadIn._make(abi.READ_IN.unpack_from(request.body))
        directory = Directory(asked.size, plus, self._valid)
        self._handler.readdir(request, asked.fh, asked.offset, directory)
        return directory.packed()

    def _releasedir(self, request: Request) -> None:
        self._handler.releasedir(request, abi.RELEASE_IN.unpack_from(request.body)[0])

    def _fsyncdir(self, request: Request) -> None:
        fh, flags = abi.FSYNC_IN.unpack_from(request.body)
        self._handler.fsyncdir(request, fh, bool(flags & abi.FSYNC_FDATASYNC))

    def _setxattr(self, request: Request) -> None:
        size, flags = abi.SETXATTR_IN_COMPAT.unpack_from(request.body)
        head = abi.SETXATTR_IN.size if self._setxattr_ext else abi.SETXATTR_IN_COMPAT.size
        name = _name(request.body[head:])
        value = bytes(request.body[head + len(name) + 1 :][:size])
        self._handler.setxattr(request, name, value, flags)

    def _getxattr(self, request: Request) -> Reply:
        (size,) = abi.GETXATTR_IN.unpack_from(request.body)
        return _sized(self._handler.getxattr(request, _name(request.body[abi.GETXATTR_IN.size :])), size)

    def _listxattr(self, request: Request) -> Reply:
        (size,) = abi.GETXATTR_IN.unpack_from(request.body)
        return _sized(b"".join(name + b"\0" for name in self._handler.listxattr(request)), size)

    def _removexattr(self, request: Request) -> None:
        self._handler.removexattr(request, _name(request.body))

    def _access(self, request: Request) -> None:
        self._handler.access(request, abi.ACCESS_IN.unpack_from(request.body)[0])

    def _getlk(self, request: Request) -> Reply:
        return abi.LK_OUT.pack(*self._handler.getlk(request, _lock_in(request)))

    def _setlk(self, request: Request) -> None:
        self._handler.setlk(request, _lock_in(request))

    def _fallocate(self, request: Request) -> None:
        asked = abi.FallocateIn._make(abi.FALLOCATE_IN.unpack_from(request.body))
        self._handler.fallocate(request, asked)

    def _lseek(self, request: Request) -> Reply:
        return abi.LSEEK_OUT.pack(self._handler.lseek(request, *abi.LSEEK_IN.unpack_from(request.body)))

    def _copy_file_range(self, request: Request) -> Reply:
        asked = abi.CopyIn._make(abi.COPY_FILE_RANGE_IN.unpack_from(request.body))
        # this reply has 32 bits; a multiple of the page size, so that the caller goes on aligned
        limited = asked._replace(length=min(asked.length, 0x7FFFF000))
        return abi.WRITE_OUT.pack(self._handler.copy_file_range(request, limited))

    def _copy_file_range_64(self, request: Request) -> Reply:
        asked = abi.CopyIn._make(abi.COPY_FILE_RANGE_IN.unpack_from(request.body))
        return abi.COPY_FILE_RANGE_OUT.pack(self._handler.copy_file_range(request, asked))

    def _ioctl(self, request: Request) -> Reply:
        asked = abi.IoctlIn._make(abi.IOCTL_IN.unpack_from(request.body))
        data = bytes(request.body[abi.IOCTL_IN.size :][: asked.in_size])
        result, out = self._handler.ioctl(request, asked, data)
        return abi.IOCTL_OUT.pack(result, 0, 0, 0) + out[: asked.out_size]

    def _syncfs(self, request: Request) -> None:
        self._handler.syncfs(request)


_ANSWERED = frozenset(Opcode) - {
    Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.INIT, Opcode.DESTROY, Opcode.SETLKW,
    # not for file systems like these: block devices, notifications, DAX; nobody asks for the rest
    Opcode.BMAP, Opcode.POLL, Opcode.NOTIFY_REPLY, Opcode.SETUPMAPPING, Opcode.REMOVEMAPPING, Opcode.STATX,
}  # fmt: skip


def _name(body: memoryview) -> bytes:
    """The first of the names, without its NUL."""
    name, nul, _rest = bytes(body).partition(b"\0")
    if not nul:
        raise ValueError("a name without end")
    return name


def _names(body: memoryview) -> tuple[bytes, bytes]:
    first, second, _rest = bytes(body).split(b"\0", 2)
    return first, second


def _opened(opened: abi.Opened) -> bytes:
    return abi.OPEN_OUT.pack(opened.fh, opened.flags, opened.backing)


def _sized(value: bytes, size: int) -> bytes:
    """An xattr's value, or only its size if that was the question (size 0)."""
    if size == 0:
        return abi.GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value


def _lock_in(request: Request) -> abi.LockIn:
    return abi.LockIn._make(abi.LK_IN.unpack_from(request.body))
