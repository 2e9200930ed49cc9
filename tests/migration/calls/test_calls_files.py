"""Files and directories: the same from the kernel directly and through plan, collect, land."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from migration.calls.calls_loopback import Kernel, Loopback, Room, Scenario, Seen, compare, iovec, words

SCENARIOS: list[Scenario] = []
AT_FDCWD = -100


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@scenario
def files_read_write(kernel: Kernel, folder: Path) -> Seen:
    name = bytes(folder / "a")
    fd = kernel("open", name, os.O_RDWR | os.O_CREAT, 0o640)
    room, seen = Room(20), []
    for call in (
        ("write", fd, Room(b"hello world"), 11),
        ("write", fd, Room(b""), 0),
        ("write", fd, None, 0),
        ("write", fd, None, 3),
        ("pwrite64", fd, Room(b"J"), 1, 0),
        ("lseek", fd, 0, os.SEEK_SET),
        ("read", fd, room, 5),
        ("read", fd, room, 20),
        ("read", fd, room, 20),
        ("read", fd, None, 5),
        ("read", fd, 0xFFFF_8000_0000_0000, 5),
        ("read", -1, room, 5),
        ("pread64", fd, room, 7, 2),
        ("pread64", fd, room, 7, -1),
        ("read", fd, room, -1),
        ("write", fd, room, -5),
        ("ftruncate", fd, 4),
        ("truncate", name, 2),
        ("truncate", bytes(folder), 2),
        ("fsync", fd),
        ("fallocate", fd, 0, 0, 100),
        ("fadvise64", fd, 0, 0, 2),
        ("close", fd),
        ("close", fd),
    ):
        seen += [kernel(call[0], *call[1:]), room.bytes]
    return [*seen, (folder / "a").read_bytes()]


@scenario
def files_vectors(kernel: Kernel, folder: Path) -> Seen:
    fd = kernel("openat", AT_FDCWD, bytes(folder / "a"), os.O_RDWR | os.O_CREAT, 0o600)
    a, b, c = Room(b"one"), Room(b""), Room(b"twelve bytes")
    x, y = Room(7), Room(30)
    seen: Seen = []
    for call in (
        ("writev", fd, iovec(a, b, c), 3),
        ("pwritev", fd, iovec(c, a), 2, 20, 0),
        ("pwritev2", fd, iovec(c, a), 2, -1, -1, 0),
        ("preadv", fd, iovec(x, b, y), 3, 0, 0),
        ("preadv2", fd, iovec(y, x), 2, 3, 0, 0),
        ("lseek", fd, 0, 0),
        ("readv", fd, iovec(x, y), 2),
        ("readv", fd, iovec(x, y), 0),
        ("readv", fd, None, 1),
        ("readv", fd, iovec(x, y), 1025),
        ("readv", fd, words(x.address, -1), 1),
        ("writev", fd, words(0, 5), 1),
        ("readv", fd, words(0, 5), 1),
        ("writev", fd, words(0, 0), 1),
        ("readv", 999, iovec(x), 1),
        ("close", fd),
    ):
        seen += [kernel(call[0], *call[1:]), x.bytes, y.bytes]
    return [*seen, (folder / "a").read_bytes()]


@scenario
def files_direct_io(kernel: Kernel, folder: Path) -> Seen:
    """O_DIRECT wants aligned memory; the arena must offer it where the process did."""
    fd = kernel("open", bytes(folder / "a"), os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    if fd < 0:
        return [fd]
    large = Room(bytes(range(256)) * 128)
    start = -large.address % 4096
    seen: Seen = [
        kernel("writev", fd, words(large.address + start, 4096, large.address + start + 8192, 8192), 2),
        kernel("pread64", fd, large.address + start, 4096, 4096),
        kernel("preadv", fd, words(large.address + start, 4096, large.address + start + 8192, 4096), 2, 0, 0),
        large.bytes,
    ]
    return [*seen, kernel("close", fd)]


@scenario
def files_names(kernel: Kernel, folder: Path) -> Seen:
    at = os.open(folder, os.O_RDONLY)
    room = Room(64)
    seen: Seen = []
    for call in (
        ("mkdir", bytes(folder / "d"), 0o755),
        ("mkdirat", at, b"e", 0o700),
        ("creat", bytes(folder / "f"), 0o644),
        ("close", at + 1),
        ("mknod", bytes(folder / "fifo"), 0o010644, 0),
        ("mknodat", at, b"fifo2", 0o010644, 0),
        ("link", bytes(folder / "f"), bytes(folder / "g")),
        ("linkat", at, b"f", at, b"h", 0),
        ("symlink", b"to/where", bytes(folder / "s")),
        ("symlinkat", b"elsewhere", at, b"t"),
        ("readlink", bytes(folder / "s"), room, 64),
        ("readlink", bytes(folder / "s"), room, 2),
        ("readlinkat", at, b"t", room, 64),
        ("readlinkat", at, b"t", room, 0),
        ("readlinkat", at, b"f", room, 64),
    ):
        seen += [kernel(call[0], *call[1:]), room.bytes]
    os.close(at)
    return [*seen, sorted(os.listdir(folder))]


@scenario
def files_changes(kernel: Kernel, folder: Path) -> Seen:
    for letter in "fgh":
        (folder / letter).touch()
    (folder / "d").mkdir()
    (folder / "e").mkdir()
    at = os.open(folder, os.O_RDONLY)
    seen: Seen = []
    for call in (
        ("rename", bytes(folder / "g"), bytes(folder / "i")),
        ("renameat", at, b"i", at, b"j"),
        ("renameat2", at, b"j", at, b"h", 1),
        ("chmod", bytes(folder / "f"), 0o600),
        ("fchmodat", at, b"f", 0o640),
        ("fchmodat2", at, b"f", 0o641, 0),
        ("fchmod", at, 0o750),
        ("chown", bytes(folder / "f"), -1, -1),
        ("lchown", bytes(folder / "f"), -1, -1),
        ("fchownat", at, b"f", -1, -1, 0),
        ("access", bytes(folder / "f"), os.W_OK),
        ("access", bytes(folder / "nothing"), os.W_OK),
        ("faccessat", at, b"f", os.R_OK),
        ("faccessat2", at, b"f", os.R_OK, 0x200),
        ("utime", bytes(folder / "f"), words(11, 12)),
        ("utimes", bytes(folder / "f"), words(21, 22, 23, 24)),
        ("futimesat", at, b"f", words(31, 32, 33, 34)),
        ("utimensat", at, b"f", words(41, 42, 43, 44), 0),
        ("utimensat", at, b"f", None, 0),
        ("utimensat", at, b"f", words(41, 42, 43, 2_000_000_000), 0),
        ("unlink", bytes(folder / "h")),
        ("unlinkat", at, b"e", 0x200),
        ("rmdir", bytes(folder / "d")),
        ("rmdir", bytes(folder / "d")),
        ("unlink", None),
        ("unlink", b""),
        ("unlink", b"x" * 4095),
        ("unlink", b"x" * 4096),
        ("unlink", 0xFFFF_8000_0000_0000),
        ("unlink", 16),
    ):
        seen.append(kernel(call[0], *call[1:]))
    os.close(at)
    return [*seen, sorted(os.listdir(folder))]


@scenario
def files_status(kernel: Kernel, folder: Path) -> Seen:
    name = folder / "a"
    name.write_bytes(b"12345")
    os.utime(name, (7, 8))
    fd = os.open(name, os.O_RDONLY)
    stat, large, fs = Room(160), Room(272), Room(136)
    seen: Seen = []
    for call in (
        ("stat", bytes(name), stat),
        ("lstat", bytes(name), stat),
        ("fstat", fd, stat),
        ("fstat", fd, None),
        ("fstat", 999, stat),
        ("newfstatat", AT_FDCWD, bytes(name), stat, 0x100),
        ("newfstatat", fd, b"", stat, 0x1000),
        ("stat", b"/nonexistent", stat),
        ("statx", AT_FDCWD, bytes(name), 0, 0x7FF, large),
        ("statx", fd, b"", 0x1000, 0x7FF, large),
        ("statx", fd, b"", 0, 0x7FF, large),
    ):
        result = kernel(call[0], *call[1:])
        # device and inode, and the times of change, differ between the two runs of the scenario
        size = struct.unpack_from("<q", stat.bytes, 48), struct.unpack_from("<q", large.bytes, 40)
        times = stat.bytes[72:80], stat.bytes[88:96], large.bytes[64:72]
        seen += [result, size, times, stat.bytes[144:], large.bytes[256:]]
    result = kernel("statfs", b"/proc", fs)
    seen += [result, fs.bytes, kernel("fstatfs", fd, fs), fs.bytes[:16], fs.bytes[120:]]
    os.close(fd)
    return seen


@scenario
def files_directory(kernel: Kernel, folder: Path) -> Seen:
    for letter in "abc":
        (folder / letter).touch()
    fd = os.open(folder, os.O_RDONLY)
    room, seen = Room(1000), []
    for size in (1000, 1000, 0, 10):
        result = kernel("getdents64", fd, room, size)
        entries, at = [], 0
        while at < result:
            length = struct.unpack_from("<H", room.bytes, at + 16)[0]
            entries.append(room.bytes[at + 19 : at + length].split(b"\0")[0])
            at += length
        # between the entries the kernel leaves a few bytes as they were, so only the rest is compared
        seen += [result, sorted(entries), room.bytes[result:] if result > 0 else b""]
    os.lseek(fd, 0, 0)
    seen.append(kernel("getdents", fd, room, 1000))
    seen += [kernel("getdents64", fd, room, 5), kernel("getdents64", 999, room, 5)]
    os.close(fd)
    return seen


@scenario
def files_working_directory(kernel: Kernel, folder: Path) -> Seen:
    before = os.getcwd()
    fd = os.open(folder, os.O_RDONLY)
    room, seen = Room(4200), []
    for call in (
        ("getcwd", room, 4200),
        ("chdir", bytes(folder)),
        ("getcwd", room, 4200),
        ("getcwd", room, 3),
        ("getcwd", None, 100),
        ("getcwd", room, 0),
        ("chdir", b"/"),
        ("fchdir", fd),
        ("getcwd", room, 4200),
        ("umask", 0o27),
        ("umask", 0o22),
    ):
        seen += [kernel(call[0], *call[1:]), room.bytes]
    os.chdir(before)
    os.close(fd)
    return seen


@scenario
def files_attributes(kernel: Kernel, folder: Path) -> Seen:
    name = folder / "a"
    name.touch()
    fd = os.open(name, os.O_RDWR)
    room, text = Room(50), bytes(name)
    seen: Seen = []
    for call in (
        ("setxattr", text, b"user.one", Room(b"value"), 5, 0),
        ("setxattr", text, b"user.one", Room(b"value"), 5, 1),
        ("lsetxattr", text, b"user.two", Room(b""), 0, 0),
        ("fsetxattr", fd, b"user.three", Room(b"3"), 1, 0),
        ("setxattr", text, b"user." + b"x" * 250, Room(b"1"), 1, 0),
        ("setxattr", text, b"user." + b"x" * 251, Room(b"1"), 1, 0),
        ("setxattr", text, b"", Room(b"1"), 1, 0),
        ("setxattr", text, b"user.big", room, 70000, 0),
        ("getxattr", text, b"user.one", room, 50),
        ("getxattr", text, b"user.one", room, 0),
        ("getxattr", text, b"user.one", None, 0),
        ("getxattr", text, b"user.one", room, 2),
        ("lgetxattr", text, b"user.two", room, 50),
        ("fgetxattr", fd, b"user.three", room, 50),
        ("fgetxattr", fd, b"user.none", room, 50),
        ("removexattr", text, b"user." + b"x" * 250),
        ("removexattr", text, b"user.two"),
        ("lremovexattr", text, b"user.two"),
        ("listxattr", text, room, 50),
        ("llistxattr", text, room, 50),
        ("flistxattr", fd, room, 50),
        ("flistxattr", fd, room, 1),
        ("fremovexattr", fd, b"user.three"),
        ("setxattrat", AT_FDCWD, text, 0, b"user.at", words(room.address, 5), 16),
        ("getxattrat", AT_FDCWD, text, 0, b"user.at", words(room.address + 10, 20), 16),
        ("getxattrat", AT_FDCWD, text, 0, b"user.at", words(room.address + 10, 20), 15),
        ("listxattrat", AT_FDCWD, text, 0, room, 40),
        ("removexattrat", AT_FDCWD, text, 0, b"user.at"),
    ):
        result = kernel(call[0], *call[1:])
        listing = sorted(room.bytes.split(b"\0")) if "list" in str(call[0]) else room.bytes
        seen += [result, listing]
    os.close(fd)
    return seen


@scenario
def files_copying(kernel: Kernel, folder: Path) -> Seen:
    (folder / "a").write_bytes(bytes(range(200)))
    source = os.open(folder / "a", os.O_RDONLY)
    target = os.open(folder / "b", os.O_RDWR | os.O_CREAT)
    reading, writing = os.pipe()
    here, there = words(10), words(3)
    seen: Seen = []
    for call in (
        ("copy_file_range", source, here, target, there, 20, 0),
        ("copy_file_range", source, None, target, None, 20, 0),
        ("sendfile", writing, source, here, 16),
        ("sendfile", writing, source, None, 16),
        ("splice", source, here, writing, None, 8, 0),
        ("splice", reading, None, target, there, 16, 0),
        ("tee", reading, writing, 4, 2),
        ("sendfile", 999, source, here, 16),
        ("sync_file_range", target, 0, 0, 2),
        ("readahead", source, 0, 100),
    ):
        seen += [kernel(call[0], *call[1:]), here.bytes, there.bytes]
    seen.append(os.read(reading, 1000))
    for fd in (source, target, reading, writing):
        os.close(fd)
    return [*seen, (folder / "b").read_bytes()]


@scenario
def files_handles(kernel: Kernel, folder: Path) -> Seen:
    (folder / "a").touch()
    handle, mount = Room(struct.pack("<Ii", 0, 0) + bytes(128)), Room(16)
    seen: Seen = [
        kernel("name_to_handle_at", AT_FDCWD, bytes(folder / "a"), handle, mount, 0),
        handle.bytes[:4],
        mount.bytes,
        kernel("name_to_handle_at", AT_FDCWD, bytes(folder / "a"), handle, mount, 0),
        handle.bytes[:8],
        mount.bytes[4:],
    ]
    how = Room(struct.pack("<QQQ", os.O_RDONLY, 0, 0))
    fd = kernel("openat2", AT_FDCWD, bytes(folder / "a"), how, 24)
    seen += [fd, kernel("close", fd), kernel("openat2", AT_FDCWD, bytes(folder / "a"), how, 23)]
    return [*seen, kernel("openat2", AT_FDCWD, bytes(folder / "a"), how, 5000)]


@scenario
def files_cache(kernel: Kernel, folder: Path) -> Seen:
    (folder / "a").write_bytes(bytes(10000))
    fd = os.open(folder / "a", os.O_RDONLY)
    room = Room(48)
    result = kernel("cachestat", fd, words(0, 0), room, 0)
    attributes = Room(32)
    other = kernel("file_getattr", AT_FDCWD, bytes(folder / "a"), attributes, 24, 0)
    os.close(fd)
    return [result, room.bytes, other, attributes.bytes]


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_forwarded_is_as_direct(act: Scenario) -> None:
    compare(act)


def test_a_large_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1 << 20))
    loopback = Loopback()
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    room = Room(1 << 20)
    assert loopback("read", fd, room, 1 << 20) == 1 << 20
    assert room.bytes == (tmp_path / "a").read_bytes()
    os.close(fd)
    loopback.close()
