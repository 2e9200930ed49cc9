"""System calls on files that Python does not have: openat2, renameat2, fallocate, getdents64 and their kin.

Sources: the manual pages of section 2 of these names; constants from the headers named beside them.
Descriptors that are returned are close-on-exec. All functions raise OSError.
"""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag
from typing import NamedTuple

from omtools.linux.libc import C, fail, syscall

SYS_OPENAT2 = 437  # asm/unistd_64.h
AT_FDCWD = -100  # linux/fcntl.h
AT_EMPTY_PATH = 0x1000  # linux/fcntl.h
_SYS_GETDENTS64 = 217  # asm/unistd_64.h
_SYS_UNSHARE, _CLONE_FS = 272, 0x200  # asm/unistd_64.h, linux/sched.h
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # linux/stat.h
_MAX_HANDLE = 128  # MAX_HANDLE_SZ, linux/exportfs.h


class Resolve(IntFlag):
    """How openat2 walks a path: linux/openat2.h."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


class Rename(IntFlag):
    """Flags of renameat2: linux/fs.h."""

    NOREPLACE = 1
    EXCHANGE = 2
    WHITEOUT = 4


class Fallocate(IntFlag):
    """Modes of fallocate: linux/falloc.h."""

    KEEP_SIZE = 0x01
    PUNCH_HOLE = 0x02
    COLLAPSE_RANGE = 0x08
    ZERO_RANGE = 0x10
    INSERT_RANGE = 0x20
    UNSHARE_RANGE = 0x40


class _OpenHow(ctypes.Structure):
    """struct open_how: linux/openat2.h."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _FileHandle(ctypes.Structure):
    """struct file_handle with room for the largest: linux/fcntl.h."""

    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("content", ctypes.c_ubyte * _MAX_HANDLE)]


C.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
C.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
C.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Timespec), ctypes.c_int]
C.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
C.name_to_handle_at.argtypes = [
    ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_FileHandle), ctypes.POINTER(ctypes.c_int), ctypes.c_int,
]  # fmt: skip
C.open_by_handle_at.argtypes = [ctypes.c_int, ctypes.POINTER(_FileHandle), ctypes.c_int]


def openat2(dir_fd: int, path: bytes, flags: int, mode: int = 0, resolve: Resolve = Resolve(0)) -> int:  # noqa: B008 - an immutable constant
    """Open `path` below `dir_fd` and let the kernel watch the walk; returns a descriptor.

    Raises:
        OSError: as open(2); EXDEV where the path leaves what `resolve` allows, ELOOP at a link it forbids.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, int(resolve))
    name = ctypes.create_string_buffer(path)
    return syscall(
        SYS_OPENAT2, dir_fd, ctypes.addressof(name), ctypes.addressof(how), ctypes.sizeof(how)
    )


def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: Rename) -> None:
    """Rename relative to two directories, with flags."""
    if C.renameat2(old_fd, old, new_fd, new, int(flags)):
        raise fail()


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Reserve or release room of a file; `mode` of `Fallocate`."""
    if C.fallocate(fd, mode, offset, length):
        raise fail()


def _timespec(nanoseconds: int | None, now: int) -> _Timespec:
    if nanoseconds is None:
        return _Timespec(0, _UTIME_OMIT)
    if nanoseconds == now:
        return _Timespec(0, _UTIME_NOW)
    return _Timespec(*divmod(nanoseconds, 1_000_000_000))


def set_times(path: bytes, atime_ns: int | None, mtime_ns: int | None, now: int) -> None:
    """Set times of last access and modification.

    Args:
        path: the file; symbolic links are followed.
        atime_ns: nanoseconds since 1970, `now` for the present, None to leave it.
        mtime_ns: likewise.
        now: the value that stands for the present.
    """
    times = (_Timespec * 2)(_timespec(atime_ns, now), _timespec(mtime_ns, now))
    if C.utimensat(AT_FDCWD, path, times, 0):
        raise fail()


def unshare_directory_and_umask() -> None:
    """From now on the calling thread has a working directory and a umask of its own."""
    syscall(_SYS_UNSHARE, _CLONE_FS)


class Dirent(NamedTuple):
    """One struct linux_dirent64: getdents64(2)."""

    name: bytes
    ino: int
    kind: int
    cookie: int


_DIRENT = struct.Struct("<QqHB")


def getdents(fd: int, size: int = 1 << 15) -> list[Dirent]:
    """The next entries of an open directory, up to `size` bytes of them; empty at its end."""
    buffer = ctypes.create_string_buffer(size)
    length = syscall(_SYS_GETDENTS64, fd, ctypes.addressof(buffer), size)
    raw = buffer.raw[:length]
    found = []
    position = 0
    while position < length:
        ino, cookie, step, kind = _DIRENT.unpack_from(raw, position)
        start = position + _DIRENT.size
        found.append(Dirent(raw[start : raw.index(b"\0", start)], ino, kind, cookie))
        position += step
    return found


def file_system_type(fd: int) -> int:
    """The magic number of the file system that holds `fd`: linux/magic.h, fstatfs(2)."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes; f_type comes first
    if C.fstatfs(fd, buffer):
        raise fail()
    return int.from_bytes(buffer.raw[:8], "little")


class FileHandle(NamedTuple):
    """What identifies an inode for good, also against one that gets its number later."""

    kind: int
    content: bytes


def name_to_handle_at(fd: int) -> FileHandle:
    """The handle of what `fd` (O_PATH will do) is open on.

    Raises:
        OSError: EOPNOTSUPP where the file system has no handles.
    """
    handle = _FileHandle(size=_MAX_HANDLE)
    mount = ctypes.c_int()
    if C.name_to_handle_at(fd, b"", ctypes.byref(handle), ctypes.byref(mount), AT_EMPTY_PATH):
        raise fail()
    return FileHandle(handle.kind, bytes(handle.content[: handle.size]))


def open_by_handle_at(mount_fd: int, handle: FileHandle, flags: int) -> int:
    """Open what a handle names; `mount_fd` is open on anything of its mount. Needs CAP_DAC_READ_SEARCH.

    Raises:
        OSError: ESTALE if the inode is gone, EPERM without the capability.
    """
    raw = _FileHandle(size=len(handle.content), kind=handle.kind)
    ctypes.memmove(raw.content, handle.content, len(handle.content))
    descriptor: int = C.open_by_handle_at(mount_fd, ctypes.byref(raw), flags | os.O_CLOEXEC)
    if descriptor < 0:
        raise fail()
    return descriptor
