"""A table of calls and of what they are called on, by root and by somebody with few rights; see `test_posix_table`.

In the spirit of pjdfstest, but each answer is compared with what a plain directory gives.
"""

from __future__ import annotations

import itertools
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omfs.fuse_support import STRANGER, USER, outcome, populate
from omfs.posix_names import (
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    NOW,
    OMIT,
    SYS_LINKAT,
    SYS_RENAMEAT2,
    set_times,
    system_call,
)

SYS_FACCESSAT2, SYS_FCHMODAT2 = 439, 452  # asm/unistd_64.h
LONG = "n" * 255
ACL = struct.pack("<I" + "HHI" * 5, 2, 1, 6, 2**32 - 1, 2, 6, STRANGER, 4, 4, 2**32 - 1, 16, 6, 2**32 - 1, 32, 4, 2**32 - 1)
"""A value of system.posix_acl_access: linux/posix_acl_xattr.h."""
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""A value of security.capability: struct vfs_cap_data of linux/capability.h."""

FILES = {
    "group-rw": (0o660, 0, USER), "group-no": (0o606, 0, USER), "mine-no": (0o066, USER, 0), "write-only": (0o222, 0, 0),
    "run-only": (0o111, 0, 0), "mine-ro": (0o444, USER, USER), "mine-setgid": (0o2755, USER, STRANGER),
    "open-setgid": (0o2777, 0, 0), "open-setuid": (0o4777, 0, 0), "sticky/stranger": (0o666, STRANGER, STRANGER),
    "sticky/root-full/x": (0o666, 0, 0), "my-sticky/stranger": (0o666, STRANGER, STRANGER), "ro/f": (0o666, 0, 0),
    "ro/mine": (0o666, USER, USER), "wx/f": (0o666, 0, 0), "list/f": (0o666, 0, 0), "groups/root": (0o664, 0, USER),
    "groups/mine": (0o664, USER, USER), "my/d/x": (0o644, USER, USER), "my/root": (0o600, 0, 0), "my/root-d/x": (0o600, 0, 0),
}  # fmt: skip
DIRECTORIES = {
    "ro": (0o555, 0, 0), "ro/my-d": (0o777, USER, USER), "wx": (0o333, 0, 0), "list": (0o744, 0, 0), "sticky/root-d": (0o777, 0, 0),
    "sticky/my-d": (0o777, USER, USER), "sticky/root-full": (0o777, 0, 0), "my-sticky/root-d": (0o777, 0, 0),
    "groups": (0o3775, 0, USER), "my": (0o755, USER, USER), "my/d": (0o755, USER, USER), "my/root-d": (0o700, 0, 0),
    "my/empty": (0o700, USER, USER), "my/none": (0, USER, USER),
}  # fmt: skip
LINKS = {"to-closed": "closed/x", "to-ro": "ro", "to-my": "my/d", "to-missing": "missing/x"}
# Not "my/.": a directory that may not be searched is left by "." and ".." without asking anybody.
ON = [
    "file", "suid", "mine", "secret", "readonly", *FILES, "dir", "full", *DIRECTORIES, "my/none/x", "ro/new", "wx/new", "list/new",
    "sticky", "sticky/root-s", "sticky/mine", "sticky/new", "my-sticky/root-s", "groups/new", "closed", "closed/x", "closed/new",
    "closed/x/y", "blind", "blind/x", "blind/new", "link", "dangling", "loop", "loop/x", "linkdir", "linkdir/new", "up", *LINKS,
    "to-ro/f", "to-my/x", "fifo", "missing", "missing/x", "file/x", "yours/new", "group/new", "dir/", "file/", "missing/",
    "linkdir/", "dangling/", "loop/", ".", "..", "dir/.", "dir/..", "my/d/..", "", LONG, LONG + "n", "my/" + LONG,
    "my/" + LONG + "n", "closed/" + LONG + "n", "x/" * 2048,
]  # fmt: skip
SOURCES = [
    "mine", "my/d", "file", "my/empty", "sticky/root-s", "sticky/mine", "groups/root", "ro/my-d", "closed/x", "link", "my/root-d", ".",
]  # fmt: skip
PAIRED = [
    "file", "mine", "dir", "my/d", "my/d/x", "my/empty", "my/root-d", "my/none/x", "ro/f", "ro/my-d", "ro/new", "wx/f", "list/f",
    "sticky/root-s", "sticky/mine", "sticky/root-full", "my-sticky/root-d", "groups/root", "closed/x", "closed/new", "link",
    "loop", "fifo", "missing", "missing/x", "file/x", "my/new", "my/d/new/", "my/", "file/", ".", "", "my/" + LONG + "n",
]  # fmt: skip


def furnish(top: Path) -> None:
    """Some of everything, and more where rights differ."""
    populate(top)
    for name in DIRECTORIES:
        (top / name).mkdir()
    for name in FILES:
        (top / name).write_text("data")
    for name, (mode, uid, gid) in {**FILES, **DIRECTORIES}.items():
        os.chown(top / name, uid, gid)
        (top / name).chmod(mode)
    for name, target in LINKS.items():
        (top / name).symlink_to(target)


def opens(flags: int) -> Callable[[str], Any]:
    def body(path: str) -> Any:
        file = os.open(path, flags | os.O_NONBLOCK, 0o640)
        try:
            return os.fstat(file)
        finally:
            os.close(file)

    return body


def uses(flags: int) -> Callable[[str], Any]:
    """What an open file allows."""

    def body(path: str) -> Any:
        file = os.open(path, flags | os.O_NONBLOCK)
        calls: list[Callable[[], Any]] = [
            lambda: os.fchmod(file, 0o2640), lambda: os.fchown(file, -1, os.getgid()), lambda: os.fchown(file, 0, -1),
            lambda: os.utime(file, ns=(5, 6)), lambda: os.utime(file), lambda: os.ftruncate(file, 2), lambda: os.write(file, b"zz"),
            lambda: os.read(file, 3).hex(), lambda: os.setxattr(file, "user.q", b"1"), lambda: os.getxattr(file, "user.q").hex(),
            lambda: os.removexattr(file, "user.q"), lambda: os.posix_fallocate(file, 0, 9), lambda: os.fstat(file),
        ]  # fmt: skip
        try:
            return tuple(outcome(call) for call in calls)
        finally:
            os.close(file)

    return body


def masks(call: Callable[[int], Any]) -> tuple[Any, ...]:
    return tuple(outcome(lambda mask=mask: call(mask)) for mask in range(8))  # type: ignore[misc]


def there_and_back(path: str) -> None:
    os.chdir(path)
    os.chdir("/")


NAMES: dict[str, Callable[[str], Any]] = {
    "stat": os.stat, "lstat": os.lstat, "unlink": os.unlink, "rmdir": os.rmdir, "readlink": os.readlink,
    "list": lambda path: sorted(os.listdir(path)),
    "mkdir": lambda path: os.mkdir(path, 0o7751), "mkfifo": lambda path: os.mkfifo(path, 0o666),
    "symlink": lambda path: os.symlink("there", path),
    **{
        f"mknod {kind:o}": lambda path, kind=kind: os.mknod(path, kind | 0o6777, 0x103)  # type: ignore[misc]
        for kind in (stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
    },
    "whiteout": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, 0),
    "link": lambda path: os.link(path, path.rstrip("/") + "-l"),
    "link to a link": lambda path: os.link(path, path.rstrip("/") + "-l", follow_symlinks=False),
    "chdir": there_and_back,
    "statvfs": lambda path: os.statvfs(path).f_namemax,
}  # fmt: skip
ATTRIBUTES: dict[str, Callable[[str], Any]] = {
    "chmod 0": lambda path: os.chmod(path, 0), "chmod 7777": lambda path: os.chmod(path, 0o7777),
    "fchmodat2": lambda path: system_call(SYS_FCHMODAT2, AT_FDCWD, path.encode(), 0o1600, AT_SYMLINK_NOFOLLOW),
    **{
        f"chown {uid} {gid}": lambda path, uid=uid, gid=gid: os.chown(path, uid, gid)  # type: ignore[misc]
        for uid, gid in ((0, -1), (USER, -1), (USER, USER), (-1, USER), (-1, STRANGER), (-1, 0), (-1, -1))
    },
    "lchown": lambda path: os.lchown(path, os.getuid(), os.getgid()),
    "truncate 0": lambda path: os.truncate(path, 0), "truncate 4": lambda path: os.truncate(path, 4),
    "truncate far": lambda path: os.truncate(path, 1 << 62),
    **{
        f"utimensat {times}": lambda path, times=times: set_times(path, *times)  # type: ignore[misc]
        for times in ((NOW, OMIT), (NOW, NOW), (OMIT, OMIT), ((5, 5), NOW), ((5, 5), (6, 6)), (OMIT, (6, 6)))
    },
    "utimensat of a link": lambda path: set_times(path, (5, 5), (6, 6), AT_SYMLINK_NOFOLLOW),
    "access": lambda path: masks(lambda mask: os.access(path, mask)),
    "eaccess": lambda path: masks(lambda mask: os.access(path, mask, effective_ids=True)),
    "access of a link": lambda path: masks(lambda mask: system_call(SYS_FACCESSAT2, AT_FDCWD, path.encode(), mask, AT_SYMLINK_NOFOLLOW)),
    **{
        f"setxattr {name}": lambda path, name=name, value=value: os.setxattr(path, name, value)  # type: ignore[misc]
        for name, value in (
            ("user.a", b"1"), ("trusted.a", b"1"), ("security.a", b"1"), ("security.capability", CAPABILITY),
            ("system.posix_acl_access", ACL), ("system.posix_acl_default", ACL),
        )
    },
    **{
        f"getxattr {name}": lambda path, name=name: os.getxattr(path, name).hex()  # type: ignore[misc]
        for name in ("user.a", "trusted.a", "security.a", "system.posix_acl_access")
    },
    "setxattr of a link": lambda path: os.setxattr(path, "user.a", b"1", follow_symlinks=False),
    "listxattr": lambda path: sorted(os.listxattr(path)), "removexattr": lambda path: os.removexattr(path, "user.a"),
}  # fmt: skip
OPENING: dict[str, Callable[[str], Any]] = {
    **{
        f"open {access} {more:o}": opens(access | more)
        for access, more in (
            *itertools.product((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, 3), (0, os.O_CREAT, os.O_TRUNC)),
            *itertools.product((os.O_RDONLY, os.O_RDWR), (os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, os.O_NOATIME, os.O_TMPFILE)),
            *((os.O_RDONLY, more) for more in (os.O_DIRECTORY, os.O_NOFOLLOW, os.O_CREAT | os.O_DIRECTORY, os.O_PATH)),
            (os.O_WRONLY, os.O_APPEND | os.O_TRUNC), (os.O_WRONLY, os.O_CREAT | os.O_NOFOLLOW),
        )
    },
    **{f"use {flags:o}": uses(flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH, os.O_PATH | os.O_NOFOLLOW)},
}  # fmt: skip


def moves(flags: int) -> Callable[[str, str], Any]:
    return lambda one, other: system_call(SYS_RENAMEAT2, AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), flags)


def links(flags: int) -> Callable[[str, str], Any]:
    return lambda one, other: system_call(SYS_LINKAT, AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), flags)


PAIRS: dict[str, tuple[Callable[[str, str], Any], list[str]]] = {
    **{f"rename {flags}": (moves(flags), SOURCES) for flags in (0, 1, 2)},
    **{f"rename {flags}": (moves(flags), SOURCES[:2]) for flags in (3, 4, 5, 8)},
    "link": (links(0), SOURCES),
    "link to what a link is to": (links(AT_SYMLINK_FOLLOW), ["link", "loop", "dir"]),
}

Row = tuple[Callable[..., Any], list[tuple[str, ...]]]
TABLES: dict[str, dict[str, Row]] = {
    "names": {name: (call, [(on,) for on in ON]) for name, call in NAMES.items()},
    "attributes": {name: (call, [(on,) for on in ON]) for name, call in ATTRIBUTES.items()},
    # what the kernel lets everybody open, `test_meeting_places` knows
    "opening": {name: (call, [(on,) for on in ON if on != "fifo"]) for name, call in OPENING.items()},
    "pairs": {
        f"{name} {one}": (call, [(one, other) for other in PAIRED])
        for name, (call, sources) in PAIRS.items()
        for one in sources
    },
}
"""Rows of calls that are made one after the other in a tree of their own, each with all the names."""
