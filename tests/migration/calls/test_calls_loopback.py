"""Differential tests: every scenario sees the same from the kernel directly and through plan, collect, land."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calls_loopback import Direct, Kernel, Loopback, Room

Seen = list[object]
Scenario = Callable[[Kernel, Path], Seen]
SCENARIOS: list[Scenario] = []
AT_FDCWD = -100


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@pytest.fixture(scope="module")
def loopback() -> Iterator[Loopback]:
    deputy = Loopback()
    yield deputy
    deputy.close()


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_forwarded_is_as_direct(act: Scenario, loopback: Loopback) -> None:
    seen = []
    # the same name both times, for paths are compared too
    folder = Path(tempfile.gettempdir(), f"calls-{os.getpid()}")
    for kernel in (Direct(), loopback):
        folder.mkdir()
        try:
            seen.append(act(kernel, folder))
        finally:
            shutil.rmtree(folder)
    assert seen[0] == seen[1]
    assert seen[0]


def words(*numbers: int) -> Room:
    return Room(struct.pack(f"<{len(numbers)}q", *numbers))


def ints(*numbers: int) -> Room:
    return Room(struct.pack(f"<{len(numbers)}i", *numbers))


def iovec(*rooms: Room) -> Room:
    return words(*[number for room in rooms for number in (room.address, room.size)])


# --- files ---------------------------------------------------------------------------------------------


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
        seen += [kernel(call[0], *call[1:]), room.bytes]  # type: ignore[arg-type]
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
        seen += [kernel(call[0], *call[1:]), x.bytes, y.bytes]  # type: ignore[arg-type]
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
        seen += [kernel(call[0], *call[1:]), room.bytes]  # type: ignore[arg-type]
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
        result = kernel(call[0], *call[1:])  # type: ignore[arg-type]
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
        seen += [result, sorted(entries), room.bytes[max(result, 0) :]]
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
        seen += [kernel(call[0], *call[1:]), room.bytes]  # type: ignore[arg-type]
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
        result = kernel(call[0], *call[1:])  # type: ignore[arg-type]
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
        seen += [kernel(call[0], *call[1:]), here.bytes, there.bytes]  # type: ignore[arg-type]
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


# --- descriptors ---------------------------------------------------------------------------------------


@scenario
def descriptors_fcntl(kernel: Kernel, folder: Path) -> Seen:
    fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    other = os.open(folder / "a", os.O_RDWR)
    lock = struct.pack("<hhxxxxqqixxxx", fcntl.F_WRLCK, 0, 5, 10, 0)
    room, pipe = Room(lock), Room(8)
    owner, hint = Room(8), words(0)
    seen: Seen = []
    for call in (
        ("fcntl", fd, fcntl.F_GETFD, 0),
        ("fcntl", fd, fcntl.F_SETFD, 0),
        ("fcntl", fd, fcntl.F_GETFL),
        ("fcntl", fd, fcntl.F_SETFL, os.O_APPEND),
        ("fcntl", fd, fcntl.F_SETLK, Room(lock)),
        ("fcntl", fd, fcntl.F_SETLKW, Room(lock)),
        ("fcntl", fd, fcntl.F_GETLK, room),
        ("fcntl", other, 37, Room(lock)),  # F_OFD_SETLK against our own POSIX lock
        ("fcntl", other, 36, room),
        ("fcntl", fd, fcntl.F_SETLK, None),
        ("fcntl", fd, fcntl.F_DUPFD, 100),
        ("close", 100),
        ("fcntl", fd, fcntl.F_DUPFD_CLOEXEC | (5 << 32), 100),
        ("close", 100),
        ("fcntl", fd, 16, owner),  # F_GETOWN_EX
        ("fcntl", fd, 1035, hint),  # F_GET_RW_HINT
        ("fcntl", fd, 1036, words(2)),
        ("fcntl", fd, 1035, hint),
        ("dup", fd),
        ("dup2", fd, 100),
        ("dup3", fd, 101, os.O_CLOEXEC),
        ("dup3", fd, fd, 0),
        ("close_range", 100, 101, 0),
        ("close", other + 1),
        ("flock", fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ("flock", other, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ("pipe", pipe),
        ("pipe2", pipe, os.O_NONBLOCK),
        ("pipe2", pipe, 0x7FFF_FFFF),
        ("pipe", None),
    ):
        result = kernel(call[0], *call[1:])  # type: ignore[arg-type]
        seen += [result, room.bytes, pipe.bytes, owner.bytes, hint.bytes]
    for n in range(4):
        os.close(other + 1 + n)
    os.close(fd)
    os.close(other)
    return seen


@scenario
def descriptors_events(kernel: Kernel, folder: Path) -> Seen:
    event = kernel("eventfd2", 3, 0)
    room = Room(24)
    seen: Seen = [kernel("read", event, room, 8), room.bytes, kernel("write", event, words(9), 8)]
    watch = kernel("inotify_init1", os.O_NONBLOCK)
    seen += [event, watch, kernel("inotify_add_watch", watch, bytes(folder), 0x100)]
    (folder / "new").touch()
    notes = Room(200)
    seen += [kernel("read", watch, notes, 200), notes.bytes, kernel("inotify_rm_watch", watch, 1)]
    vector = kernel("readv", watch, iovec(notes, room), 2)
    seen += [vector, notes.bytes]
    memory = kernel("memfd_create", b"x" * 249, 0)
    seen += [memory, kernel("memfd_create", b"x" * 250, 0), kernel("close", memory)]
    timer = kernel("timerfd_create", 1, 0)
    old = Room(32)
    seen += [
        timer,
        kernel("timerfd_settime", timer, 0, words(0, 0, 0, 1), old),
        old.bytes,
        kernel("read", timer, room, 8),
        kernel("timerfd_gettime", timer, old),
        old.bytes,
        room.bytes,
    ]
    for fd in (event, watch, timer):
        kernel("close", fd)
    return seen


@scenario
def descriptors_poll(kernel: Kernel, _folder: Path) -> Seen:
    reading, writing = os.pipe()
    polls = Room(struct.pack("<ihhihhihh", reading, select.POLLIN, 99, writing, select.POLLOUT, 0, 999, 1, 0))
    seen: Seen = [
        kernel("poll", polls, 3, 0),
        polls.bytes,
        kernel("poll", polls, 1, 1),
        polls.bytes,
        kernel("poll", polls, 0, 0),
        kernel("poll", None, 0, 0),
        kernel("poll", None, 2, 0),
        kernel("poll", polls, 0x7FFF_FFFF, 0),
        kernel("poll", polls, 0xDEAD_0000_0003, -1 & 0xFFFF_FFFF),
    ]
    wait = words(0, 1000)
    seen += [kernel("ppoll", polls, 1, wait, words(1 << 11), 8), polls.bytes, wait.bytes]
    os.write(writing, b"x")
    wait = words(50, 1000)
    seen += [kernel("ppoll", polls, 3, None, None, 0), polls.bytes]
    seen += [kernel("ppoll", polls, 3, wait, None, 0), wait.bytes[:1] in (b"\x31", b"\x32")]
    seen += [kernel("ppoll", polls, 3, wait, words(0), 7), kernel("ppoll", polls, 3, words(0, -1), None, 0)]
    os.close(reading)
    os.close(writing)
    return seen


def _set(*fds: int) -> Room:
    bits = sum(1 << fd for fd in fds)
    return Room(bits.to_bytes(128, "little"))


@scenario
def descriptors_select(kernel: Kernel, _folder: Path) -> Seen:
    reading, writing = os.pipe()
    r, w, e = _set(reading), _set(writing), _set(reading)
    wait = words(0, 1000)
    seen: Seen = [kernel("select", writing + 1, r, w, e, wait), r.bytes, w.bytes, e.bytes]
    seen += [kernel("select", writing + 1, _set(reading), None, None, wait), wait.bytes]
    seen += [kernel("select", 0, None, None, None, words(0, 1))]
    seen += [kernel("select", -1, r, w, e, None), kernel("select", 1024, _set(999), None, None, None)]
    os.write(writing, b"x")
    r, wait = _set(reading), words(100, 0)
    pack = Room(struct.pack("<QQ", words(0).address, 8))
    mask = words(0)
    pack = words(mask.address, 8)
    seen += [kernel("pselect6", writing + 1, r, None, None, wait, pack), r.bytes, wait.bytes[1:8]]
    seen += [kernel("pselect6", writing + 1, r, None, None, None, words(0, 8)), r.bytes]
    seen += [kernel("pselect6", writing + 1, r, None, None, None, words(mask.address, 7))]
    seen += [kernel("pselect6", writing + 1, r, None, None, None, None)]
    os.close(reading)
    os.close(writing)
    return seen


@scenario
def descriptors_epoll(kernel: Kernel, _folder: Path) -> Seen:
    reading, writing = os.pipe()
    poll = kernel("epoll_create1", 0)
    event, many = Room(struct.pack("<IQ", select.EPOLLOUT, 0x1122334455667788)), Room(12 * 10)
    seen: Seen = []
    for call in (
        ("epoll_ctl", poll, 1, writing, event),
        ("epoll_ctl", poll, 1, writing, event),
        ("epoll_ctl", poll, 1, reading, None),
        ("epoll_ctl", poll, 3, writing, event),
        ("epoll_wait", poll, many, 10, 0),
        ("epoll_wait", poll, many, 10, -1),
        ("epoll_wait", poll, many, 0, 0),
        ("epoll_wait", poll, many, -1, 0),
        ("epoll_wait", poll, many, 0x7FFF_FFFF, 0),
        ("epoll_wait", poll, many, 100000, 0),
        ("epoll_pwait", poll, many, 10, 5, words(0), 8),
        ("epoll_pwait", poll, many, 10, 5, None, 8),
        ("epoll_pwait2", poll, many, 10, words(1, 0), None, 8),
        ("epoll_pwait2", poll, many, 10, None, words(0), 8),
        ("epoll_ctl", poll, 2, writing, 16),
        ("epoll_pwait2", poll, many, 10, words(0, 5), None, 8),
        ("epoll_wait", poll, many, 10, 1),
        ("epoll_wait", writing, many, 10, 1),
    ):
        seen += [kernel(call[0], *call[1:]), many.bytes]  # type: ignore[arg-type]
    for fd in (poll, reading, writing):
        os.close(fd)
    return seen


@scenario
def terminals(kernel: Kernel, _folder: Path) -> Seen:
    master, slave = pty.openpty()
    settings, size, number = Room(64), Room(12), Room(8)
    seen: Seen = []
    for fd, request, argument in (
        (slave, 0x5401, settings),  # TCGETS
        (slave, 0x5402, settings),  # TCSETS
        (slave, 0x5404, settings),  # TCSETSF
        (slave, 0x802C542A, settings),  # TCGETS2
        (slave, 0x402C542B, settings),  # TCSETS2
        (slave, 0x5405, settings),  # TCGETA
        (slave, 0x5414, Room(struct.pack("<4H", 24, 80, 3, 4))),  # TIOCSWINSZ
        (master, 0x5413, size),  # TIOCGWINSZ
        (master, 0x5420, ints(1)),  # TIOCPKT
        (master, 0x80045438, number),  # TIOCGPKT
        (master, 0x40045431, ints(0)),  # TIOCSPTLCK
        (master, 0x80045439, number),  # TIOCGPTLCK
        (slave, 0x541B, number),  # FIONREAD
        (slave, 0x5411, number),  # TIOCOUTQ
        (slave, 0x5424, number),  # TIOCGETD
        (slave, 0x5409, 1),  # TCSBRK
        (slave, 0x540B, 0),  # TCFLSH
        (slave, 0x540F, number),  # TIOCGPGRP: not our terminal
        (slave, 0x5429, number),  # TIOCGSID
        (slave, 0x5410, ints(1)),  # TIOCSPGRP
        (slave, 0x5401, None),
        (slave | 1 << 40, 0x5401 | 1 << 40, settings),
        (999, 0x5401, settings),
    ):
        result = kernel("ioctl", fd, request, argument)
        seen += [result, settings.bytes, size.bytes, number.bytes]
    seen.append(kernel("ioctl", master, 0x80045430, number))  # TIOCGPTN
    seen.append(number.bytes[4:])
    os.close(master)
    os.close(slave)
    return seen


@scenario
def requests(kernel: Kernel, folder: Path) -> Seen:
    reading, writing = os.pipe()
    os.write(writing, b"12345")
    fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    network = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number, interface = Room(16), Room(b"lo".ljust(40, b"\0"))
    extents = Room(struct.pack("<QQIIII", 0, 1 << 20, 0, 0, 2, 0) + bytes(112))
    seen: Seen = []
    for fd_, request, argument in (
        (reading, 0x541B, number),  # FIONREAD
        (reading, 0x5421, ints(1)),  # FIONBIO
        (reading, 0x5451, 0),  # FIOCLEX
        (reading, 0x5401, number),  # TCGETS: ENOTTY
        (fd, 2, number),  # FIGETBSZ
        (fd, 0x80086601, number),  # FS_IOC_GETFLAGS
        (fd, 0x80087601, Room(16)),  # FS_IOC_GETVERSION
        (fd, 0x801C581F, Room(32)),  # FS_IOC_FSGETXATTR
        (fd, 0xC020660B, extents),  # FS_IOC_FIEMAP
        (fd, 0x40049409, reading),  # FICLONE
        (network.fileno(), 0x8933, interface),  # SIOCGIFINDEX
        (network.fileno(), 0x8921, interface),  # SIOCGIFMTU
        (network.fileno(), 0x8913, interface),  # SIOCGIFFLAGS
        (network.fileno(), 0x8904, number),  # SIOCGPGRP
        (network.fileno(), 0x8933, None),
    ):
        seen += [kernel("ioctl", fd_, request, argument), number.bytes, interface.bytes, extents.bytes[32:]]
    network.close()
    for each in (reading, writing, fd):
        os.close(each)
    return seen


# --- sockets -------------------------------------------------------------------------------------------


@scenario
def sockets_stream(kernel: Kernel, folder: Path) -> Seen:
    address = struct.pack("<H", socket.AF_UNIX) + bytes(folder / "s")
    where, room, size = Room(address), Room(40), ints(40)
    seen: Seen = []
    server = kernel("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
    client = kernel("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
    for call in (
        ("bind", server, where, len(address)),
        ("bind", server, where, 129),
        ("bind", server, where, -1),
        ("bind", server, None, 10),
        ("listen", server, 5),
        ("getsockname", server, Room(140), ints(140)),
        ("getsockname", server, room, size),
        ("getsockname", server, room, ints(-1)),
        ("getsockname", server, room, None),
        ("getsockname", server, room, ints(0)),
        ("getpeername", client, room, size),
        ("connect", client, where, len(address)),
        ("accept", server, None, None),
        ("getpeername", client, Room(8), ints(8)),
        ("sendto", client, Room(b"hello"), 5, 0, None, 0),
        ("sendto", client, Room(b"hello"), 5, 0, where, -1),
        ("recvfrom", client + 1, room, 40, socket.MSG_PEEK, Room(20), ints(20)),
        ("recvfrom", client + 1, room, 3, 0, None, None),
        ("recvfrom", client + 1, room, 40, socket.MSG_DONTWAIT, None, 16),
        ("recvfrom", client + 1, room, 40, socket.MSG_DONTWAIT, None, None),
        ("shutdown", client, socket.SHUT_WR),
        ("recvfrom", client + 1, room, 40, 0, None, None),
        ("accept4", server | 1 << 35, room, size, os.O_NONBLOCK | 1),
    ):
        seen.append(kernel(call[0], *call[1:]))  # type: ignore[arg-type]
        seen += [arg.bytes for arg in call if isinstance(arg, Room) and arg is not where]
    for fd in (server, client, client + 1):
        os.close(fd)
    return seen


@scenario
def sockets_datagram(kernel: Kernel, _folder: Path) -> Seen:
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    a.bind(("127.0.0.1", 0))
    b.bind(("127.0.0.1", 0))
    to = Room(struct.pack("<H", socket.AF_INET) + struct.pack(">H", b.getsockname()[1]) + bytes([127, 0, 0, 1] + [0] * 8))
    came = struct.pack(">H", a.getsockname()[1])
    room, name, size = Room(30), Room(20), ints(20)
    seen: Seen = [kernel("sendto", a.fileno(), Room(b"datagram"), 8, 0, to, 16)]
    seen += [kernel("recvfrom", b.fileno(), room, 4, socket.MSG_TRUNC, name, size)]
    seen += [room.bytes, name.bytes.replace(came, b"PP"), size.bytes]
    message = _message(to, [Room(b"several "), Room(b"pieces")], b"")
    seen += [kernel("sendmsg", a.fileno(), message, 0)]
    x, y, name = Room(3), Room(30), Room(40)
    header = _message(name, [x, y], b"")
    seen += [kernel("recvmsg", b.fileno(), header, 0), x.bytes, y.bytes, name.bytes.replace(came, b"PP")]
    seen += [_numbers(header), kernel("recvmsg", b.fileno(), header, socket.MSG_DONTWAIT)]
    seen += [kernel("recvmsg", b.fileno(), None, 0), kernel("sendmsg", b.fileno(), 16, 0)]
    a.close()
    b.close()
    return seen


def _message(name: Room | None, rooms: list[Room], control: bytes, keep: list[Room] | None = None) -> Room:
    vector, ancillary = iovec(*rooms), Room(control)
    message = Room(
        struct.pack(
            "<QiiQQQQii", name.address if name else 0, name.size if name else 0, 0, vector.address, len(rooms),
            ancillary.address if control else 0, len(control), 0, 0,
        )
    )
    # what it points to must live as long as it does
    message.parts = [vector, ancillary, *rooms]  # type: ignore[attr-defined]
    if keep is not None:
        keep.append(ancillary)
    return message


def _numbers(message: Room) -> tuple[int, ...]:
    """The fields of a msghdr that are no pointers."""
    fields = struct.unpack("<QiiQQQQii", message.bytes[:56])
    return fields[1], fields[4], fields[6], fields[7]


@scenario
def sockets_descriptors_travel(kernel: Kernel, folder: Path) -> Seen:
    (folder / "a").write_bytes(b"content")
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.open(folder / "a", os.O_RDONLY)
    rights = struct.pack("<Qiiii", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, fd, 0)
    seen: Seen = [kernel("sendmsg", a.fileno(), _message(None, [Room(b"take it")], rights), 0)]
    keep: list[Room] = []
    room = Room(20)
    message = _message(None, [room], bytes(64), keep)
    # the padding behind the last descriptor is nobody's: the kernel leaves it as it was
    seen += [kernel("recvmsg", b.fileno(), message, 0), room.bytes, _numbers(message)]
    seen += [keep[0].bytes[:20], keep[0].bytes[24:]]
    received = struct.unpack_from("<i", keep[0].bytes, 16)[0]
    seen.append(os.read(received, 100))
    os.close(received)
    seen += [kernel("sendmsg", a.fileno(), _message(None, [Room(b"again")], rights), 0)]
    message = _message(None, [room], bytes(8), keep)  # no room for it: MSG_CTRUNC
    seen += [kernel("recvmsg", b.fileno(), message, 0), keep[1].bytes, _numbers(message)]
    message = _message(None, [room], b"")
    seen += [kernel("sendmsg", a.fileno(), _message(None, [Room(b"third")], rights), 0)]
    seen += [kernel("recvmsg", b.fileno(), message, 0), room.bytes, _numbers(message)]
    os.close(fd)
    a.close()
    b.close()
    return seen


@scenario
def sockets_many_messages(kernel: Kernel, _folder: Path) -> Seen:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    send = [_message(None, [Room(f"message {i}".encode()), Room(b"!" * i)], b"") for i in range(4)]
    headers = Room(b"".join(message.bytes + bytes(8) for message in send))
    seen: Seen = [kernel("sendmmsg", a.fileno(), headers, 4, 0)]
    seen += [struct.unpack_from("<I", headers.bytes, 64 * i + 56) for i in range(4)]
    rooms = [[Room(3), Room(20)] for _ in range(6)]
    receive = [_message(Room(20), pair, bytes(24)) for pair in rooms]
    headers = Room(b"".join(message.bytes + b"\x33" * 8 for message in receive))
    before = [headers.bytes[64 * i : 64 * i + 8] for i in range(6)]
    wait = words(0, 0)
    seen += [kernel("recvmmsg", b.fileno(), headers, 6, socket.MSG_DONTWAIT, wait), wait.bytes]
    seen += [_numbers(Room(headers.bytes[64 * i : 64 * i + 56])) for i in range(6)]
    seen += [headers.bytes[64 * i + 56 : 64 * i + 64] for i in range(6)]
    seen += [room.bytes for pair in rooms for room in pair]
    assert before == [headers.bytes[64 * i : 64 * i + 8] for i in range(6)], "the pointers are the process's own"
    seen += [kernel("recvmmsg", b.fileno(), headers, 6, socket.MSG_DONTWAIT, None)]
    seen += [kernel("recvmmsg", b.fileno(), None, 0, 0, None), kernel("sendmmsg", 999, headers, 2, 0)]
    a.close()
    b.close()
    return seen


@scenario
def sockets_options(kernel: Kernel, _folder: Path) -> Seen:
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    fd = stream.fileno()
    room, size = Room(32), ints(32)
    accept_nothing = words(struct.unpack("<q", struct.pack("<HBBI", 6, 0, 0, 0))[0])
    seen: Seen = []
    for call in (
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, ints(1), 4),
        ("getsockopt", fd, 1, socket.SO_REUSEADDR, room, size),
        ("setsockopt", fd, 1, socket.SO_LINGER, ints(1, 5), 8),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(8)),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(3)),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(-4)),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(0)),
        ("getsockopt", fd, 1, socket.SO_LINGER, None, ints(8)),
        ("getsockopt", fd, 1, socket.SO_TYPE, room, ints(1 << 30)),
        ("setsockopt", fd, 6, socket.TCP_NODELAY, ints(1), 4),
        ("getsockopt", fd, 6, socket.TCP_NODELAY, room, ints(4)),
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, None, 4),
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, ints(1), -1),
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, ints(1), 0),
        ("setsockopt", fd, 1, 9999, ints(1), 4),
        ("getsockopt", a.fileno(), 1, socket.SO_PEERCRED, room, ints(12)),
        ("getsockopt", a.fileno(), 1, 59, Room(4), ints(0)),  # SO_PEERGROUPS: says how much room it wants
        ("setsockopt", datagram.fileno(), 1, 26, Room(struct.pack("<HxxxxxxQ", 1, accept_nothing.address)), 16),
        ("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, room),
    ):
        seen.append(kernel(call[0], *call[1:]))  # type: ignore[arg-type]
        seen += [arg.bytes for arg in call if isinstance(arg, Room) and arg.size < 16 or arg is room]
    for n in struct.unpack_from("<ii", room.bytes):
        os.close(n)
    for each in (stream, datagram, a, b):
        each.close()
    return seen


# --- System V and POSIX queues -------------------------------------------------------------------------


@scenario
def queues(kernel: Kernel, _folder: Path) -> Seen:
    sets = kernel("semget", 0, 2, 0o600)
    operations = Room(struct.pack("<HhhHhh", 0, 3, 0, 1, 1, 0))
    status = Room(112)
    seen: Seen = [
        kernel("semop", sets, operations, 2),
        kernel("semop", sets, operations, 0),
        kernel("semop", sets, None, 1),
        kernel("semtimedop", sets, Room(struct.pack("<Hhh", 0, -9, 0)), 1, words(0, 1000)),
        kernel("semctl", sets, 0, 12 | 0x100, 0),
        kernel("semctl", sets, 0, 16, 7),
        kernel("semctl", sets, 0, 12, 0),
        kernel("semctl", sets, 0, 2 | 0x100, status),
        status.bytes[80:],
        kernel("semctl", sets, 0, 0, 0),
    ]
    queue = kernel("msgget", 0, 0o600)
    room = Room(40)
    seen += [
        kernel("msgsnd", queue, Room(struct.pack("<q", 5) + b"a message"), 9, 0),
        kernel("msgsnd", queue, Room(struct.pack("<q", 0) + b"a message"), 9, 0),
        kernel("msgsnd", queue, Room(struct.pack("<q", 5)), -1, 0),
        kernel("msgctl", queue, 2, Room(128)),
        kernel("msgrcv", queue, room, 3, 0, 0),
        kernel("msgrcv", queue, room, 30, 0, 0x800),
        room.bytes,
        kernel("msgrcv", queue, room, 30, 0, 0x800),
        kernel("msgctl", queue, 0, 0),
    ]
    attributes = words(0, 3, 20, 0, 0, 0, 0, 0)
    mq = kernel("mq_open", b"calls-test", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600, attributes)
    seen.append(kernel("mq_unlink", b"calls-test"))
    if mq >= 0:
        priority, room, old = Room(4), Room(40), Room(64)
        seen += [
            kernel("mq_timedsend", mq, Room(b"posix"), 5, 7, None),
            kernel("mq_timedsend", mq, Room(40), 40, 7, None),
            kernel("mq_getsetattr", mq, None, old),
            old.bytes,
            kernel("mq_timedreceive", mq, room, 40, priority, words(0, 0)),
            room.bytes,
            priority.bytes,
            kernel("mq_timedreceive", mq, room, 40, None, None),
        ]
        os.close(mq)
    return seen


# --- processes -----------------------------------------------------------------------------------------


def _child(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], {})


@scenario
def processes_waiting(kernel: Kernel, _folder: Path) -> Seen:
    status, usage, info = Room(8), Room(160), Room(140)
    child = _child("read x <&- ; exec sleep 100")
    seen: Seen = [kernel("wait4", child, status, os.WNOHANG, usage), status.bytes, usage.bytes]
    seen += [kernel("waitid", 1, child, info, os.WNOHANG | os.WEXITED, usage), info.bytes, usage.bytes]
    seen += [kernel("kill", child, signal.SIGKILL), kernel("wait4", child, status, 0, usage) == child]
    seen += [status.bytes, usage.bytes[144:]]
    child = _child("exit 7")
    seen += [kernel("waitid", 1, child, info, os.WEXITED | os.WNOWAIT, usage)]
    seen += [info.bytes[:16], info.bytes[16:20] == struct.pack("<i", child), info.bytes[20:], usage.bytes[144:]]
    seen += [kernel("wait4", child, status, 0, None) == child, status.bytes]
    seen += [kernel("wait4", child, status, 0, None), kernel("waitid", 1, child, info, os.WEXITED, None)]
    seen += [info.bytes, kernel("wait4", -1, None, 0x7000_0000, None)]
    return seen


@scenario
def processes_identity(kernel: Kernel, _folder: Path) -> Seen:
    groups, name, mask = Room(4 * 70000), Room(20), Room(1200)
    header, data = Room(struct.pack("<Ii", 0x20080522, 0)), Room(32)
    wrong = Room(struct.pack("<Ii", 7, 0))
    seen: Seen = [
        kernel("getppid"),
        kernel("getpgrp"),
        kernel("getpgid", 0),
        kernel("getsid", 0),
        kernel("getpid"),
        kernel("getuid"),
        kernel("getgroups", 0, groups),
        kernel("getgroups", 65536, groups),
        kernel("getgroups", -1, groups),
        groups.bytes,
        kernel("prctl", 16, name),
        name.bytes,
        kernel("prctl", 37, mask, 0, 0, 0),
        kernel("prctl", 3, 0, 0, 0, 0),
        kernel("prctl", 0x0BAD << 32 | 39, 0, 0, 0, 0),
        kernel("capget", header, data),
        header.bytes,
        data.bytes,
        kernel("capget", wrong, data),
        kernel("capget", wrong, None),
        wrong.bytes,
        kernel("sched_getaffinity", 0, 1200, mask),
        kernel("sched_getaffinity", 0, 3, mask),
        mask.bytes,
        kernel("sched_getscheduler", 0),
        kernel("getpriority", 0, 0),
        kernel("sched_get_priority_max", 1),
        kernel("ioprio_get", 1, 0),
        kernel("personality", 0xFFFF_FFFF),
        kernel("tgkill", os.getpid(), os.getpid(), 0),
        kernel("kill", 0x7FFF_FFFE, 0),
        kernel("rt_sigqueueinfo", 0x7FFF_FFFE, 0, Room(bytes(128))),
    ]
    parameter, attributes = Room(8), Room(60)
    seen += [kernel("sched_getparam", 0, parameter), parameter.bytes]
    seen += [kernel("sched_getattr", 0, attributes, 56, 0), kernel("sched_setattr", 0, attributes, 0)]
    return [*seen, attributes.bytes]


@scenario
def processes_system(kernel: Kernel, _folder: Path) -> Seen:
    limit, old, names, info, spare = Room(24), Room(24), Room(400), Room(128), Room(40)
    seen: Seen = [
        kernel("getrlimit", 7, limit),
        limit.bytes,
        kernel("prlimit64", 0, 7, None, old),
        old.bytes,
        kernel("prlimit64", 0, 7, limit, old),
        old.bytes,
        kernel("prlimit64", 0, 999, limit, old),
        kernel("setrlimit", 7, limit),
        kernel("setrlimit", 7, None),
        kernel("uname", names),
        names.bytes,
        kernel("sysinfo", info),
        info.bytes[32:40],
        info.bytes[112:],
        kernel("syslog", 10, None, 0),
        kernel("clock_getres", 2, spare),
        spare.bytes,
        kernel("clock_gettime", 10, spare),
        kernel("clock_gettime", 0, None),
        kernel("times", None) > 0,
        kernel("times", spare) > 0,
        kernel("getrusage", 0, info),
        kernel("getrusage", 5, info),
        kernel("getrusage", 0, None),
    ]
    return seen


@scenario
def processes_timers(kernel: Kernel, _folder: Path) -> Seen:
    before = signal.setitimer(signal.ITIMER_REAL, 0)  # pytest-timeout's
    interval, identity, old = Room(40), Room(8), Room(40)
    event = Room(struct.pack("<Qii", 0, 0, 1).ljust(64, b"\0"))  # SIGEV_NONE
    seen: Seen = [
        kernel("getitimer", 0, interval),
        interval.bytes,
        kernel("setitimer", 0, words(0, 0, 1000, 5), interval),
        kernel("setitimer", 0, words(0, 0, 0, 0), interval),
        interval.bytes[:16],
        kernel("setitimer", 9, words(0, 0, 0, 0), interval),
        kernel("alarm", 0),
        kernel("timer_create", 1, event, identity),
        identity.bytes[4:],
    ]
    timer = struct.unpack_from("<i", identity.bytes)[0]
    seen += [
        kernel("timer_settime", timer, 0, words(0, 0, 1000, 0), old),
        old.bytes,
        kernel("timer_gettime", timer, old),
        old.bytes[:16],
        kernel("timer_getoverrun", timer),
        kernel("timer_delete", timer),
        kernel("timer_delete", timer),
        kernel("adjtimex", Room(bytes(208))) >= 0,
    ]
    signal.setitimer(signal.ITIMER_REAL, *before)
    return seen


@scenario
def calls_that_are_gone(kernel: Kernel, _folder: Path) -> Seen:
    return [
        kernel(call)
        for call in ("_sysctl", "create_module", "nfsservctl", "getpmsg", "security", "epoll_wait_old", "vserver")
    ]


def test_timeouts_survive_in_the_process(loopback: Loopback) -> None:
    """What select leaves of its timeout is written where the process has it, on a timeout too."""
    wait = words(0, 2000)
    assert loopback("select", 0, None, None, None, wait) == 0
    assert wait.bytes == bytes(16)


def test_a_large_read(loopback: Loopback, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1 << 20))
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    room = Room(1 << 20)
    assert loopback("read", fd, room, 1 << 20) == 1 << 20
    assert room.bytes == (tmp_path / "a").read_bytes()
    os.close(fd)
