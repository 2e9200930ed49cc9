"""Cases of POSIX for names and attributes: each gets an empty directory and tells what it saw there.

The same case is run on a plain directory and on a mount, and must tell the same. Facts are from POSIX and the
manual pages of section 2.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Case = Callable[[str], Any]
CASES: dict[str, Case] = {}
NOW, OMIT = (0, (1 << 30) - 1), (0, (1 << 30) - 2)  # linux/stat.h
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW = -100, 0x100, 0x400  # linux/fcntl.h
SYS_LINKAT, SYS_FALLOCATE, SYS_RENAMEAT2 = 265, 285, 316  # asm/unistd_64.h
CLOCK_REALTIME_COARSE = 5  # linux/time.h
LONG_AGO = 10**18
C = ctypes.CDLL(None, use_errno=True)


def case(body: Case) -> Case:
    CASES[body.__name__] = body
    return body


def say(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What it gives, or its errno by name."""
    try:
        got = call(*args, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, error.errno)
    return got if type(got) in (int, str, bool, list, tuple) else "ok"


def system_call(number: int, *args: Any) -> int:
    # numbers that may be large are given as c_long
    result = int(C.syscall(number, *args))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def make(path: str, data: bytes = b"content", mode: int = 0o644) -> None:
    Path(path).write_bytes(data)
    os.chmod(path, mode)


def told(path: str) -> list[Any]:
    found = os.lstat(path)
    size = found.st_size if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else 0
    return [oct(found.st_mode), found.st_nlink, found.st_uid, found.st_gid, size]


def all_told(top: str) -> list[Any]:
    return [[name, told(f"{top}/{name}")] for name in sorted(os.listdir(top))]


def set_times(path: str, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> str:
    failed = C.utimensat(AT_FDCWD, path.encode(), struct.pack("4q", *atime, *mtime), flags)
    return errno.errorcode[ctypes.get_errno()] if failed else "ok"


def opened(path: str, flags: int, use: Callable[[int], Any]) -> Any:
    file = os.open(path, flags, 0o644)
    try:
        return use(file)
    finally:
        os.close(file)


# --- which times a call changes

CHANGES: dict[str, Case] = {
    "chmod": lambda top: os.chmod(f"{top}/f", 0o600),
    "chmod to the same": lambda top: os.chmod(f"{top}/f", 0o644),
    "chown": lambda top: os.chown(f"{top}/f", os.getuid(), -1),
    "chown of nothing": lambda top: os.chown(f"{top}/f", -1, -1),
    "lchown": lambda top: os.lchown(f"{top}/l", os.getuid(), -1),
    "link": lambda top: os.link(f"{top}/f", f"{top}/d/f2"),
    "unlink": lambda top: os.unlink(f"{top}/g"),
    "rename": lambda top: os.rename(f"{top}/f", f"{top}/f9"),
    "rename away": lambda top: os.rename(f"{top}/f", f"{top}/d/f"),
    "rename over": lambda top: os.rename(f"{top}/f", f"{top}/h"),
    "rename onto itself": lambda top: os.rename(f"{top}/f", f"{top}/f"),
    "rename onto its other name": lambda top: os.rename(f"{top}/f", f"{top}/g"),
    "rename a directory": lambda top: os.rename(f"{top}/d", f"{top}/e/d"),
    "exchange": lambda top: system_call(SYS_RENAMEAT2, AT_FDCWD, f"{top}/f".encode(), AT_FDCWD, f"{top}/d".encode(), 2),
    "mkdir": lambda top: os.mkdir(f"{top}/new"),
    "rmdir": lambda top: os.rmdir(f"{top}/e"),
    "symlink": lambda top: os.symlink("x", f"{top}/new"),
    "mkfifo": lambda top: os.mkfifo(f"{top}/new"),
    "create": lambda top: opened(f"{top}/new", os.O_CREAT | os.O_WRONLY, bool),
    "create what is there": lambda top: opened(f"{top}/f", os.O_CREAT | os.O_WRONLY, bool),
    "open with O_TRUNC": lambda top: opened(f"{top}/f", os.O_TRUNC | os.O_WRONLY, bool),
    "open an empty one with O_TRUNC": lambda top: opened(f"{top}/z", os.O_TRUNC | os.O_WRONLY, bool),
    "truncate to the same": lambda top: os.truncate(f"{top}/f", 7),
    "truncate to more": lambda top: os.truncate(f"{top}/f", 70),
    "truncate nothing to nothing": lambda top: os.truncate(f"{top}/z", 0),
    "ftruncate to the same": lambda top: opened(f"{top}/f", os.O_RDWR, lambda file: os.ftruncate(file, 7)),
    "write": lambda top: opened(f"{top}/f", os.O_WRONLY, lambda file: os.write(file, b"x")),
    "write nothing": lambda top: opened(f"{top}/f", os.O_WRONLY, lambda file: os.write(file, b"")),
    "reserve": lambda top: opened(f"{top}/f", os.O_WRONLY, lambda file: os.posix_fallocate(file, 0, 100)),
    "setxattr": lambda top: os.setxattr(f"{top}/f", "user.a", b"1"),
    "utimes": lambda top: os.utime(f"{top}/f", ns=(5, 5)),
    "utimes of a link": lambda top: os.utime(f"{top}/l", ns=(5, 5), follow_symlinks=False),
    "utimensat of nothing": lambda top: set_times(f"{top}/f", OMIT, OMIT),
    "utimensat atime": lambda top: set_times(f"{top}/f", NOW, OMIT),
    "utimensat mtime": lambda top: set_times(f"{top}/f", OMIT, NOW),
    "unlink that fails": lambda top: os.unlink(f"{top}/d"),
    "mkdir that fails": lambda top: os.mkdir(f"{top}/d"),
    "fsync": lambda top: opened(f"{top}/f", os.O_WRONLY, os.fsync),
}


@case
def times_that_change(top: str) -> Any:
    found: dict[str, Any] = {}
    for name, change in CHANGES.items():
        place = f"{top}/{len(found)}"
        os.mkdir(place)
        for file, data in (("f", b"content"), ("h", b"other"), ("z", b"")):
            make(f"{place}/{file}", data)
        os.link(f"{place}/f", f"{place}/g")
        os.mkdir(f"{place}/d")
        os.mkdir(f"{place}/e")
        os.symlink("f", f"{place}/l")
        names = ["f", "g", "h", "z", "d", "e", "l", "."]
        for file in names:
            os.utime(f"{place}/{file}", ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
        before = {file: os.lstat(f"{place}/{file}") for file in names}
        while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= max(old.st_ctime_ns for old in before.values()):
            time.sleep(0.001)  # the clock that files go by stands still for some milliseconds
        got = say(change, place)
        found[name] = [got, {file: changed(f"{place}/{file}", before[file]) for file in names}]
    return found


def changed(path: str, before: os.stat_result) -> str:
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        return "gone"
    letters = {"a": "st_atime_ns", "m": "st_mtime_ns", "c": "st_ctime_ns", "i": "st_ino", "n": "st_nlink"}
    return "".join(letter for letter, name in letters.items() if getattr(now, name) != getattr(before, name))


# --- names

KINDS: dict[str, Case] = {
    "file": make,
    "dir": os.mkdir,
    "full": lambda path: os.makedirs(f"{path}/x"),
    "link": lambda path: os.symlink("nowhere", path),
    "fifo": os.mkfifo,
    "none": lambda _path: None,
}


@case
def renames_with_flags(top: str) -> Any:
    found = []
    for number, (flags, one, other) in enumerate(itertools.product((0, 1, 2, 3, 5, 8), KINDS, KINDS)):
        place = f"{top}/{number}"
        os.mkdir(place)
        KINDS[one](f"{place}/a")
        KINDS[other](f"{place}/b")
        got = say(system_call, SYS_RENAMEAT2, AT_FDCWD, f"{place}/a".encode(), AT_FDCWD, f"{place}/b".encode(), flags)
        found.append([flags, one, other, got, all_told(place), os.stat(place).st_nlink])
    return found


@case
def renames_into_themselves(top: str) -> Any:
    os.makedirs(f"{top}/a/b/c")
    pairs = [
        ("a", "a/b/c/d"), ("a", "a/x"), ("a", "a"), ("a/b", "a"), ("a/b/c", "a/b"), ("a/.", "q"), ("a/..", "q"),
        ("a", "."), ("a", "a/.."), ("a/", "z/"), ("z", "a/"), ("none", "a"), ("a", "none/a"),
    ]  # fmt: skip
    return [say(os.rename, f"{top}/{one}", f"{top}/{other}") for one, other in pairs]


@case
def names_of_any_bytes_and_lengths(top: str) -> Any:
    place = os.fsencode(top)
    names = [bytes([byte]) * 3 for byte in range(1, 256) if byte != ord("/")] + [b"n" * 255, b"n" * 256, b" ", b"-", b"\n"]
    made = [say(os.mkdir, place + b"/" + name) for name in names]
    paths = [f"{top}/{'x/' * 2100}", f"{top}/{'n' * 256}/x"]
    calls: list[Case] = [os.stat, os.mkdir, os.unlink, os.rmdir, os.readlink, os.listdir, os.mkfifo, os.chdir, os.utime]
    return made, sorted(name.hex() for name in os.listdir(place)), [say(call, path) for call in calls for path in paths]


@case
def links_to_links(top: str) -> Any:
    make(f"{top}/f")
    os.symlink("f", f"{top}/l0")
    for number in range(1, 45):
        os.symlink(f"l{number - 1}", f"{top}/l{number}")
    os.symlink("b", f"{top}/a")
    os.symlink("a", f"{top}/b")
    lengths = []
    for size in (1, 59, 255, 1000, 4094, 4095, 4096):
        lengths.append(say(os.symlink, "x" * size, f"{top}/s{size}"))
        lengths.append(say(lambda path: (len(os.readlink(path)), os.lstat(path).st_size), f"{top}/s{size}"))
    calls: list[Case] = [os.stat, os.listdir, os.chdir, os.utime, os.statvfs, lambda path: os.truncate(path, 0)]
    return (
        [say(os.stat, f"{top}/l{number}") for number in (0, 38, 39, 40, 41)], lengths,
        [say(call, f"{top}/{name}") for call in calls for name in ("a", "a/x")], say(os.symlink, "", f"{top}/empty"),
    )  # fmt: skip


@case
def hard_links(top: str) -> Any:
    make(f"{top}/f")
    os.symlink("f", f"{top}/s")
    os.symlink("gone", f"{top}/dangling")
    os.mkdir(f"{top}/d")
    os.mkfifo(f"{top}/p")
    found = []
    for number, (name, flags) in enumerate(itertools.product(("f", "s", "dangling", "d", "p", "none", "f/x"), (0, AT_SYMLINK_FOLLOW))):
        found.append(say(system_call, SYS_LINKAT, AT_FDCWD, f"{top}/{name}".encode(), AT_FDCWD, f"{top}/new{number}".encode(), flags))
    found += [say(os.link, f"{top}/f", f"{top}/{name}") for name in ("d", "s", "f", "f/x", "n" * 256, "slash/")]
    return found, all_told(top), os.stat(top).st_nlink


@case
def here_and_above(top: str) -> Any:
    os.makedirs(f"{top}/a/b")
    os.chdir(f"{top}/a/b")
    found: list[Any] = [os.path.samefile("..", f"{top}/a"), os.path.samefile("../..", top)]
    calls: list[Case] = [os.rmdir, os.unlink, os.mkdir, lambda name: os.rename(name, "x"), lambda name: os.symlink("x", name)]
    found += [say(call, name) for call in calls for name in (".", "..")]
    os.rename(f"{top}/a/b", f"{top}/c")
    found.append(os.path.samefile("..", top))
    os.rmdir(f"{top}/c")
    calls = [os.listdir, os.mkdir, lambda name: os.open(name, os.O_CREAT | os.O_WRONLY), os.chdir]
    return [*found, say(os.getcwd), *(say(call, name) for call in calls for name in (".", "x"))]


# --- attributes


def writes(path: str) -> None:
    opened(path, os.O_WRONLY, lambda file: os.write(file, b"q"))


SETID: dict[str, Case] = {
    "write": writes,
    "write nothing": lambda path: opened(path, os.O_WRONLY, lambda file: os.write(file, b"")),
    "append": lambda path: opened(path, os.O_WRONLY | os.O_APPEND, lambda file: os.write(file, b"q")),
    "ftruncate": lambda path: opened(path, os.O_WRONLY, lambda file: os.ftruncate(file, 1)),
    "truncate": lambda path: os.truncate(path, 1),
    "truncate to the same": lambda path: os.truncate(path, 7),
    "open with O_TRUNC": lambda path: opened(path, os.O_WRONLY | os.O_TRUNC, bool),
    "reserve": lambda path: opened(path, os.O_WRONLY, lambda file: os.posix_fallocate(file, 0, 100)),
    "chown": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "chown of nothing": lambda path: os.chown(path, -1, -1),
    "chown of the group": lambda path: os.chown(path, -1, os.getgid()),
    "chmod": lambda path: os.chmod(path, 0o6755),
    "utimes": os.utime,
    "link": lambda path: os.link(path, f"{path}-2"),
    "rename": lambda path: os.rename(path, f"{path}-2"),
    "setxattr": lambda path: os.setxattr(path, "user.a", b""),
}


@case
def what_takes_set_id_bits_away(top: str) -> Any:
    found = []
    for mode, (name, change) in itertools.product((0o6755, 0o2644, 0o6777), SETID.items()):
        path = f"{top}/{name} {mode:o}"
        make(path, b"content", mode)
        found.append(say(change, path))
    os.mkdir(f"{top}/dir")
    os.chmod(f"{top}/dir", 0o6755)
    os.chown(f"{top}/dir", os.getuid(), os.getgid())
    return found, all_told(top)


@case
def owners(top: str) -> Any:
    found = []
    users, groups = (-1, os.getuid(), 4000, 2**31, 2**32 - 2), (-1, os.getgid(), *os.getgroups(), 4000, 2**32 - 2)
    for number, (uid, gid) in enumerate(itertools.product(users, groups)):
        make(f"{top}/{number}")
        found.append(say(os.chown, f"{top}/{number}", uid, gid))
    return found, all_told(top)


@case
def directories_that_hand_their_group_on(top: str) -> Any:
    found = []
    for gid in (os.getgid(), *os.getgroups()):
        place = f"{top}/{gid}"
        if os.path.exists(place):
            continue
        os.mkdir(place)
        found += [say(os.chown, place, -1, gid), say(os.chmod, place, 0o2775)]
        make(f"{place}/f")
        os.mkdir(f"{place}/d")
        os.symlink("x", f"{place}/l")
        os.mkfifo(f"{place}/p")
        os.mknod(f"{place}/n", stat.S_IFREG | 0o2755)
        opened(f"{place}/c", os.O_CREAT | os.O_WRONLY, bool)
        found.append(all_told(place))
    return found, all_told(top)


@case
def times_that_are_given(top: str) -> Any:
    make(f"{top}/f")
    os.symlink("f", f"{top}/l")
    found = []
    second = 1_000_000_000
    for atime, mtime in (
        (NOW, NOW), (OMIT, OMIT), (OMIT, (5, 6)), ((5, 6), OMIT), (NOW, (1, 1)), ((-1, 5), (-(1 << 31), 7)),
        ((1 << 31, 1), (1 << 33, 999_999_999)), ((1, second), (1, 1)), ((1, -1), (1, 1)), ((1, (1 << 30) - 3), NOW),
    ):  # fmt: skip
        os.utime(f"{top}/f", ns=(LONG_AGO, LONG_AGO))
        got = set_times(f"{top}/f", atime, mtime)
        status = os.stat(f"{top}/f")
        recent = [abs(each - time.time_ns()) < 3600 * second or each for each in (status.st_atime_ns, status.st_mtime_ns)]
        found.append([got, recent])
    found.append([set_times(f"{top}/l", (3, 4), (5, 6), AT_SYMLINK_NOFOLLOW), [os.lstat(f"{top}/l").st_mtime_ns]])
    return found, [set_times(f"{top}/{name}", NOW, NOW) for name in ("none", "f/x", "l")]


def value_of(path: str, name: str) -> str:
    return os.getxattr(path, name).hex()


@case
def extended_attributes(top: str) -> Any:
    make(f"{top}/f")
    os.mkdir(f"{top}/d")
    os.mkfifo(f"{top}/p")
    os.symlink("f", f"{top}/l")
    found: list[Any] = []
    for path in (f"{top}/f", f"{top}/d", f"{top}/p"):
        for name, size, flags in (
            ("user.a", 1, 0), ("user.a", 2, os.XATTR_CREATE), ("user.b", 1, os.XATTR_REPLACE), ("user.", 0, 0),
            ("user." + "x" * 250, 0, 0), ("user." + "x" * 251, 0, 0), ("", 0, 0), ("nope.a", 0, 0), ("none", 0, 0),
            ("user.big", 1000, 0), ("user.huge", 65537, 0), ("user.c", 0, 7), ("trusted.t", 1, 0), ("security.t", 1, 0),
        ):  # fmt: skip
            found.append(say(os.setxattr, path, name, b"x" * size, flags))
        found += [say(value_of, path, name) for name in ("user.a", "user.none", "nope.a", "trusted.t")]
        found += [say(os.removexattr, path, "user.a"), say(os.removexattr, path, "user.a"), sorted(os.listxattr(path))]
    return found, say(os.setxattr, f"{top}/l", "user.q", b"", follow_symlinks=False)
