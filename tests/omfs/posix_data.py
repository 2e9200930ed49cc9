"""Cases of POSIX for open files, locks and directories; see `omfs.posix_names`."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omfs.posix_names import (
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    CASES,
    SYS_FALLOCATE,
    SYS_LINKAT,
    C,
    Case,
    all_told,
    case,
    make,
    opened,
    say,
    system_call,
    told,
)

FLOCK = struct.Struct("hhxxxxqqixxxx")  # struct flock: asm-generic/fcntl.h
F_OFD_GETLK, F_OFD_SETLK = 36, 37  # linux/fcntl.h


def in_child(body: Callable[[], Any]) -> Any:
    """What it returns in a process of its own, or the signal that ended it."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(into, json.dumps(body()).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(text) if text else ["signal", status & 127]


# --- opening


@case
def opening_with_all_flags(top: str) -> Any:
    path = f"{top}/x"
    kinds: dict[str, Case] = {
        "file": make, "dangling": lambda at: os.symlink("nowhere", at), "loop": lambda at: os.symlink("x", at),
        "dir": os.mkdir, "fifo": os.mkfifo, "none": bool, "link to a directory": lambda at: os.symlink(".", at),
    }  # fmt: skip
    ways = [
        os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, os.O_CREAT | os.O_NOFOLLOW, os.O_CREAT,
        os.O_CREAT | os.O_DIRECTORY, os.O_NOFOLLOW, os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_DIRECTORY,
        os.O_CREAT | os.O_TRUNC, os.O_EXCL, os.O_DIRECT, os.O_SYNC, os.O_NOATIME, 3,
    ]  # fmt: skip
    found = []
    for kind, begin in kinds.items():
        begin(path)
        for way, access in itertools.product(ways, (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)):
            found.append(say(opened, path, way | access | os.O_NONBLOCK, lambda _file: "opened"))
            if kind == "none" and os.path.exists(path):
                os.unlink(path)
        found.append(all_told(top))
        for name in os.listdir(top):
            (os.rmdir if stat.S_ISDIR(os.lstat(f"{top}/{name}").st_mode) else os.unlink)(f"{top}/{name}")
    return found


@case
def files_without_a_name(top: str) -> Any:
    before = os.umask(0o027)
    file = os.open(top, os.O_TMPFILE | os.O_RDWR, 0o666)
    os.umask(before)
    os.write(file, b"hello")
    seen = os.fstat(file)
    found: list[Any] = [oct(seen.st_mode), seen.st_nlink, seen.st_size, seen.st_uid, seen.st_gid, os.listdir(top)]
    link = (AT_FDCWD, f"/proc/self/fd/{file}".encode(), AT_FDCWD)
    found += [say(system_call, SYS_LINKAT, *link, f"{top}/{name}".encode(), AT_SYMLINK_FOLLOW) for name in ("a", "b", "a")]
    found += [os.fstat(file).st_nlink, os.write(file, b" all"), Path(f"{top}/a").read_text()]
    os.close(file)
    file = os.open(top, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    link = (AT_FDCWD, f"/proc/self/fd/{file}".encode(), AT_FDCWD)
    found.append(say(system_call, SYS_LINKAT, *link, f"{top}/c".encode(), AT_SYMLINK_FOLLOW))
    os.close(file)
    found += [say(os.open, f"{top}/{name}", os.O_TMPFILE | how) for name in (".", "a", "none") for how in (os.O_RDONLY,)]
    return found, say(os.open, f"{top}/a", os.O_TMPFILE | os.O_RDWR), all_told(top)


@case
def what_an_open_file_allows(top: str) -> Any:
    make(f"{top}/f", b"0123456789")
    os.mkdir(f"{top}/d")
    ways = [("f", os.O_RDONLY), ("f", os.O_WRONLY), ("d", os.O_RDONLY), ("f", os.O_PATH), ("f", os.O_RDWR | os.O_APPEND)]
    found = []
    for name, flags in ways:
        file = os.open(f"{top}/{name}", flags)
        calls: list[tuple[Any, ...]] = [
            (lambda file: os.read(file, 3).hex(),), (os.write, b""), (os.pwrite, b"x", 0), (os.ftruncate, 5),
            (os.lseek, -1, 0), (os.lseek, 0, 9), (os.lseek, 1 << 40, 0), (lambda file: os.pread(file, 3, 1 << 62).hex(),),
            (os.fsync,), (os.fdatasync,), (os.fchmod, 0o644), (os.fchown, -1, -1), (os.fchdir,), (os.posix_fallocate, 0, 0),
            (os.posix_fallocate, 0, 10), (os.posix_fallocate, -1, 10), (os.posix_fadvise, 0, 0, 3), (os.setxattr, "user.q", b"1"),
            (fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB), (fcntl.lockf, fcntl.LOCK_SH | fcntl.LOCK_NB),
            (fcntl.lockf, fcntl.LOCK_EX | fcntl.LOCK_NB), (os.pread, 1, -1), (os.pwrite, b"x", -1), (os.truncate, -1),
        ]  # fmt: skip
        found.append([say(call, file, *more) for call, *more in calls])
        os.close(file)
        os.chdir("/")
    return found, all_told(top)


@case
def an_unlinked_file_lives_on(top: str) -> Any:
    make(f"{top}/f", b"abc")
    file = os.open(f"{top}/f", os.O_RDWR)
    os.unlink(f"{top}/f")
    make(f"{top}/f", b"another")
    found: list[Any] = [os.write(file, b"Z"), say(os.fchmod, file, 0o400), say(os.ftruncate, file, 100), say(os.fchown, file, -1, -1)]
    found += [say(os.setxattr, file, "user.u", b"1"), say(fcntl.flock, file, fcntl.LOCK_EX)]
    found += [say(fcntl.lockf, file, fcntl.LOCK_EX | fcntl.LOCK_NB), say(os.posix_fallocate, file, 0, 1000), say(os.utime, file, ns=(1, 2))]
    seen = os.fstat(file)
    found += [oct(seen.st_mode), seen.st_nlink, seen.st_size, seen.st_mtime_ns, os.pread(file, 5, 0).hex()]
    os.close(file)
    os.mkdir(f"{top}/d")
    directory = os.open(f"{top}/d", os.O_RDONLY)
    os.rmdir(f"{top}/d")
    found += [os.fstat(directory).st_nlink, os.listdir(directory), say(os.fchmod, directory, 0o700)]
    for call, *names in ((os.mkdir, "x"), (os.mkfifo, "x"), (os.unlink, "x"), (os.rmdir, "x"), (os.symlink, "a", "x")):
        found.append(say(call, *names, dir_fd=directory))
    found += [say(os.rename, f"{top}/f", "f", dst_dir_fd=directory), say(os.link, f"{top}/f", "f", dst_dir_fd=directory)]
    os.close(directory)
    return found, all_told(top)


# --- data


@case
def reserving_and_punching(top: str) -> Any:
    found = []
    spans = [(0, 4096), (4096, 8192), (100, 5000), (0, 0), (-1, 5), (1 << 20, 4096), (0, 1 << 20)]
    for mode, (offset, length) in itertools.product((0, 1, 2, 3, 0x10, 0x11, 0x100), spans):
        file = os.open(f"{top}/f", os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
        os.write(file, bytes(range(256)) * 64)
        got = say(system_call, SYS_FALLOCATE, file, mode, ctypes.c_long(offset), ctypes.c_long(length))
        seen = os.fstat(file)
        found.append([mode, offset, length, got, seen.st_size, seen.st_blocks, zlib.crc32(os.pread(file, 1 << 21, 0))])
        os.close(file)
    return found


@case
def holes_and_lengths(top: str) -> Any:
    file = os.open(f"{top}/f", os.O_CREAT | os.O_RDWR, 0o600)
    found: list[Any] = [say(os.lseek, file, 0, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE)]
    os.pwrite(file, b"x" * 8192, 65536)
    os.pwrite(file, b"x" * 4096, 1 << 20)
    os.ftruncate(file, 2 << 20)
    places = (0, 1, 65535, 65536, 70000, 73728, 1 << 20, (1 << 20) + 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, -1)
    found += [say(os.lseek, file, place, whence) for place in places for whence in (os.SEEK_DATA, os.SEEK_HOLE)]
    for size in (5000, 4096, 4095, 0, 4097, 100_000, 1 << 31, (1 << 33) + 5, 1 << 40):
        found += [say(os.ftruncate, file, size), os.fstat(file).st_size, say(os.pwrite, file, b"end", max(0, size - 3))]
        found.append(os.pread(file, 9, max(0, size - 5)).hex())
    found.append(say(os.pwrite, file, b"x", (1 << 63) - 1))
    os.close(file)
    return found


@case
def more_than_one_may_write(top: str) -> Any:
    """RLIMIT_FSIZE."""

    def limited() -> Any:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        file = os.open(f"{top}/f", os.O_CREAT | os.O_RDWR, 0o600)
        found = [say(os.write, file, b"x" * size) for size in (9000, 3000, 1)]
        return [*found, say(os.ftruncate, file, 20_000), say(os.truncate, f"{top}/f", 10_001), say(os.pwrite, file, b"xy", 9_999)]

    def killed() -> Any:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        Path(f"{top}/g").write_bytes(b"x" * 100)
        opened(f"{top}/g", os.O_WRONLY | os.O_APPEND, lambda file: os.write(file, b"y"))

    return in_child(limited), in_child(killed), all_told(top)


@case
def copying_within(top: str) -> Any:
    make(f"{top}/a", b"0123456789" * 1000)
    make(f"{top}/b", b"")
    one, other = os.open(f"{top}/a", os.O_RDWR), os.open(f"{top}/b", os.O_RDWR)
    appending, directory = os.open(f"{top}/b", os.O_WRONLY | os.O_APPEND), os.open(top, os.O_RDONLY)
    copy = os.copy_file_range
    found = [
        say(copy, one, other, 100), os.lseek(one, 0, 1), os.lseek(other, 0, 1), say(copy, one, other, 100, 5, 50),
        say(copy, one, other, 20_000, 9_990, 0), say(copy, one, other, 10, 10_000, 0), say(copy, one, appending, 10),
        say(copy, directory, other, 10), say(copy, one, directory, 10), say(copy, one, one, 10, 0, 5),
        say(copy, one, one, 10, 0, 100), say(copy, one, other, 0), say(os.sendfile, other, one, 0, 10),
    ]  # fmt: skip
    vectors = [say(os.pwritev, one, [b"abc", b"", b"defg"], 0), say(os.pwritev, one, [b"Z"], 0, os.RWF_APPEND)]
    for file in (one, other, appending, directory):
        os.close(file)
    return found, vectors, Path(f"{top}/b").read_bytes().hex()[:400], all_told(top)


@case
def appending(top: str) -> Any:
    make(f"{top}/f", b"12345")
    file = os.open(f"{top}/f", os.O_RDWR | os.O_APPEND)
    found: list[Any] = [os.write(file, b"ab"), os.lseek(file, 0, 1), os.pwrite(file, b"Q", 0), os.lseek(file, 0, 1)]
    for size in (2, 100):
        os.ftruncate(file, size)
        found += [os.write(file, b"zz"), os.lseek(file, 0, 1)]
    fcntl.fcntl(file, fcntl.F_SETFL, 0)
    os.lseek(file, 1, 0)
    os.write(file, b"N")
    os.close(file)
    return found, Path(f"{top}/f").read_bytes().hex()


# --- other kinds of files


@case
def fifos_sockets_and_devices(top: str) -> Any:
    os.chdir(top)
    os.mkfifo("p")
    found: list[Any] = [say(os.open, "p", os.O_WRONLY | os.O_NONBLOCK)]
    reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("p", os.O_WRONLY)
    os.write(writer, b"abc")
    found += [os.read(reader, 9).hex(), say(os.truncate, "p", 0), say(os.lseek, reader, 0, 0)]
    os.close(reader)
    os.close(writer)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as late:
        found += [say(server.bind, "s"), say(late.bind, "s"), say(os.open, "s", os.O_RDONLY)]
        server.listen()
        client.connect("s")
        with server.accept()[0] as there:
            client.send(b"x")
            found.append(there.recv(3).hex())
    with socket.socket(socket.AF_UNIX) as late:
        found.append(say(late.connect, "s"))
    kinds = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, 0, 0o150000)
    for kind in kinds:
        found += [say(os.mknod, f"n{kind}", kind | 0o640, os.makedev(1, 3)), say(os.lstat, f"n{kind}")]
        if os.path.lexists(f"n{kind}"):
            found += [os.lstat(f"n{kind}").st_rdev, say(os.link, f"n{kind}", f"m{kind}"), say(os.chmod, f"n{kind}", 0o600)]
    return found, all_told(top)


@case
def programs_that_run_or_not(top: str) -> Any:
    found: list[Any] = []
    script = b"#!/bin/sh\nexit 7\n"
    for name, data, mode in (("script", script, 0o755), ("no", script, 0o644), ("empty", b"", 0o755), ("junk", b"\1\2", 0o755), ("lost", b"#!/no/such\n", 0o755)):
        make(f"{top}/{name}", data, mode)
        child = os.fork()
        if child == 0:
            try:
                os.execv(f"{top}/{name}", ["it"])
            except OSError as error:
                os._exit(100 + (error.errno or 0))
        found.append(os.waitpid(child, 0)[1] >> 8)
    writer = os.open(f"{top}/script", os.O_WRONLY)
    found.append(say(os.execv, f"{top}/script", ["it"]))
    os.close(writer)
    poll = select.poll()
    with open(f"{top}/script", "rb") as file:
        poll.register(file, select.POLLIN | select.POLLOUT)
        found.append([event for _number, event in poll.poll(0)])
    return found


# --- directories


class Entry(ctypes.Structure):
    """struct dirent: dirent.h."""

    _fields_ = [
        ("ino", ctypes.c_ulong), ("off", ctypes.c_long), ("size", ctypes.c_ushort), ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    ]  # fmt: skip


C.opendir.restype, C.telldir.restype, C.readdir.restype = ctypes.c_void_p, ctypes.c_long, ctypes.POINTER(Entry)
C.telldir.argtypes = C.readdir.argtypes = C.rewinddir.argtypes = C.closedir.argtypes = [ctypes.c_void_p]
C.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


@case
def places_in_a_directory(top: str) -> Any:
    for number in range(300):
        make(f"{top}/{number:03}{'y' * (number % 90)}", b"")
    directory = C.opendir(top.encode())
    names, places = [], []
    while True:
        places.append(C.telldir(directory))
        entry = C.readdir(directory)
        if not entry:
            break
        names.append(entry.contents.name)
    good = 0
    for index in (0, 5, 1, 250, 299, 2, 150, 20):
        C.seekdir(directory, places[index])
        good += C.readdir(directory).contents.name == names[index]
    C.rewinddir(directory)
    for number in range(100):
        os.unlink(f"{top}/{number:03}{'y' * (number % 90)}")
        make(f"{top}/new{number}", b"")
    again = []
    while entry := C.readdir(directory):
        again.append(entry.contents.name)
    C.closedir(directory)
    stayed = {name for name in again if name[:1].isdigit() and int(name[:3]) >= 100}
    return len(names), len(set(names)), good, len(stayed), len(again) == len(set(again))


@case
def numbers_and_kinds_in_a_directory(top: str) -> Any:
    make(f"{top}/f")
    os.mkdir(f"{top}/d")
    os.symlink("x", f"{top}/l")
    os.mkfifo(f"{top}/p")
    os.mknod(f"{top}/s", stat.S_IFSOCK)
    directory = C.opendir(top.encode())
    found = []
    while entry := C.readdir(directory):
        name = entry.contents.name.decode()
        found.append((name, entry.contents.kind, name in {".", ".."} or entry.contents.ino == os.lstat(f"{top}/{name}").st_ino))
    C.closedir(directory)
    os.mkdir(f"{top}/d/in")
    links = [os.stat(f"{top}/{name}").st_nlink for name in (".", "d", "d/in")]
    os.rename(f"{top}/d/in", f"{top}/out")
    return sorted(found), links, [os.stat(f"{top}/{name}").st_nlink for name in (".", "d", "out")]


# --- locks


def lock(file: int, command: int, kind: int, start: int, length: int) -> Any:
    try:
        got = FLOCK.unpack(fcntl.fcntl(file, command, FLOCK.pack(kind, 0, start, length, 0)))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return [*got[:4], "parent" if got[4] == os.getppid() else got[4]] if command in (fcntl.F_GETLK, F_OFD_GETLK) else "ok"


@case
def record_locks(top: str) -> Any:
    make(f"{top}/f", bytes(1000))
    file, second = os.open(f"{top}/f", os.O_RDWR), os.open(f"{top}/f", os.O_RDONLY)
    for kind, start, length in ((1, 0, 10), (0, 20, 10), (1, 500, 0)):
        lock(file, fcntl.F_SETLK, kind, start, length)

    def other() -> Any:
        mine = os.open(f"{top}/f", os.O_RDWR)
        found = []
        for kind, start, length in ((1, 0, 0), (0, 0, 0), (0, 20, 10), (1, 20, 5), (1, 30, 100), (1, 400, 200), (0, 10, 10), (1, 0, -5), (7, 900, 1), (1, -1, 5)):
            found += [lock(mine, fcntl.F_GETLK, kind, start, length), lock(mine, fcntl.F_SETLK, kind, start, length)]
        return found

    found = [in_child(other), lock(second, fcntl.F_SETLK, 1, 900, 10)]
    os.close(second)  # and with it go all locks of the process
    found.append(in_child(lambda: lock(os.open(f"{top}/f", os.O_RDWR), fcntl.F_SETLK, 1, 0, 0)))
    os.close(file)
    return found


@case
def locks_of_open_files(top: str) -> Any:
    make(f"{top}/f", bytes(100))
    one, other = os.open(f"{top}/f", os.O_RDWR), os.open(f"{top}/f", os.O_RDWR)
    found = [lock(one, F_OFD_SETLK, 1, 0, 10), lock(other, F_OFD_SETLK, 1, 5, 1), lock(other, fcntl.F_SETLK, 1, 3, 1)]
    found += [say(fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB), say(fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB)]
    copied = os.dup(one)
    os.close(one)
    found += [lock(other, F_OFD_SETLK, 1, 5, 1), say(fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB)]
    os.close(copied)
    for call in (lambda: lock(other, 38, 1, 5, 1), lambda: fcntl.flock(other, fcntl.LOCK_EX)):  # F_OFD_SETLKW
        found.append(say(call))
    os.close(other)
    directory, again = os.open(top, os.O_RDONLY), os.open(top, os.O_RDONLY)
    os.close(directory)
    os.close(again)
    return found, told(f"{top}/f")


@case
def who_waits_for_himself(top: str) -> Any:
    make(f"{top}/f", bytes(100))
    file = os.open(f"{top}/f", os.O_RDWR)
    fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        mine = os.open(f"{top}/f", os.O_RDWR)
        fcntl.lockf(mine, fcntl.LOCK_EX, 10, 50)
        os.write(into, b"x")
        os._exit(0 if say(fcntl.lockf, mine, fcntl.LOCK_EX, 10, 0) == "ok" else 1)
    os.read(out, 1)
    os.close(out)
    os.close(into)
    mine = say(fcntl.lockf, file, fcntl.LOCK_EX, 10, 50)
    os.close(file)
    theirs = os.waitpid(child, 0)[1]
    return sorted([mine, {0: "ok", 256: "EDEADLOCK"}.get(theirs, theirs)])  # it depends on who came first


ALL_CASES = CASES
