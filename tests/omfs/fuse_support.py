"""Mounts of `Files` for tests: of a directory directly, over a link, and as several users."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linux.fuse_support import SECONDS, Server, log
from short import short_directory

from omtools.linux.fuse.mount import MountOptions, mount
from omtools.linux.fuse.session import Session
from omtools.linux.namespaces import Pr, prctl, set_parent_death_signal
from omtools.omfs.client import RemoteFiles
from omtools.omfs.exports import only
from omtools.omfs.fuse import FilesHandler
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import Files
from omtools.omfs.server import Sessions, serve
from omtools.omfs.stream import Stream

USER = 1000
STRANGER = 1001


@dataclass(frozen=True)
class Place:
    """Where the same is done twice: on a plain directory, and on a mount of another one.

    Attributes:
        plain: a directory.
        mount: the mount.
        back: what is mounted there.
    """

    plain: Path
    mount: Path
    back: Path


def user_server(directory: Path, uid: int) -> Callable[[], Stream]:
    """A process with the rights of this user that serves a directory; how to connect to it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0omfs-test-{os.getpid()}-{uid}-{directory}")
    listener.listen(64)
    address = listener.getsockname()
    parent = os.getpid()
    if os.fork() == 0:
        try:
            os.closerange(3, listener.fileno())
            os.closerange(listener.fileno() + 1, 4096)
            if uid != os.geteuid():
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            prctl(Pr.SET_DUMPABLE, 1)  # the files of /proc/self are its own again
            set_parent_death_signal(signal.SIGKILL, parent)
            signal.alarm(SECONDS)
            sessions = Sessions(lambda: LocalFiles(only(str(directory))))
            while True:
                stream, _address = listener.accept()
                threading.Thread(target=serve, args=(stream, sessions), daemon=True).start()
        finally:
            os._exit(1)
    listener.close()

    def connect() -> Stream:
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(address)
        return stream

    return connect


def handler(back: Path, kind: str) -> FilesHandler:
    """Of one kind: local, through (the kernel does the data), remote, or users (of each user their own)."""
    if kind == "users":
        by_uid: dict[int, Files] = {0: LocalFiles(only(str(back)))}
        for uid in (USER, STRANGER):
            by_uid[uid] = RemoteFiles(user_server(back, uid), 60)
        return FilesHandler(lambda uid, _gid, _pid: by_uid[uid], passthrough=False)
    files: Files
    if kind == "remote":
        files = RemoteFiles(user_server(back, os.geteuid()), 60)
    else:
        files = LocalFiles(only(str(back)))
    return FilesHandler(lambda _uid, _gid, _pid: files, passthrough=kind == "through")


@contextlib.contextmanager
def mounted(back: Path, target: Path, kind: str = "local") -> Iterator[Path]:
    """Mount a directory."""
    target.mkdir(exist_ok=True)
    options = MountOptions(allow_other=os.geteuid() == 0)
    server = Server(target, lambda: Session(mount(target, options), handler(back, kind), log=log))
    try:
        yield target
    except BaseException:
        server.clear_away()
        raise
    assert server.stop() == 0


@contextlib.contextmanager
def place(kind: str) -> Iterator[Place]:
    """A place that all users may enter."""
    base = short_directory()
    base.chmod(0o755)
    try:
        for name in ("plain", "back"):  # of one file system
            (base / name).mkdir()
            (base / name).chmod(0o777)
        with mounted(base / "back", base / "mount", kind) as target:
            yield Place(base / "plain", target, base / "back")
    finally:
        shutil.rmtree(base)


def populate(top: Path) -> None:
    """Some of everything."""
    before = os.umask(0)
    try:
        top.mkdir(mode=0o777)
        for name, mode in {
            "file": 0o644, "suid": 0o6755, "readonly": 0o444, "secret": 0o600, "open": 0o666,
            "mine": 0o4777, "program": 0o755, "loose": 0o6777,
        }.items():  # fmt: skip
            (top / name).write_text("content of it")
            (top / name).chmod(mode)
        for name, mode in {
            "dir": 0o755, "full": 0o755, "sticky": 0o1777, "group": 0o2777, "closed": 0o700, "blind": 0o711,
            "my-sticky": 0o1777, "yours": 0o777,
        }.items():  # fmt: skip
            (top / name).mkdir()
            (top / name).chmod(mode)
        for name in ("full/x", "sticky/root-s", "sticky/mine", "my-sticky/root-s", "closed/x", "blind/x"):
            (top / name).write_text("inside")
        for name, target in {
            "link": "file", "dangling": "nowhere", "loop": "loop", "linkdir": "dir", "up": "..",
        }.items():  # fmt: skip
            (top / name).symlink_to(target)
        os.mkfifo(top / "fifo", 0o644)
        os.link(top / "file", top / "second")
        for name in ("mine", "sticky/mine", "my-sticky"):
            os.chown(top / name, USER, USER)
        (top / "mine").chmod(0o4777)
        (top / "my-sticky").chmod(0o1777)
        os.chown(top / "group", 0, STRANGER)
        (top / "group").chmod(0o2777)
    finally:
        os.umask(before)


def seen(found: os.stat_result) -> tuple[int, ...]:
    """What must be the same of the same file on two sides."""
    size = found.st_size if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else 0
    return (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, size)


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What it returns, or its errno by name."""
    try:
        got = call()
    except OSError as error:
        return "errno", errno.errorcode.get(error.errno or 0, error.errno)
    return "value", _plain(got)


def _plain(got: Any) -> Any:
    """Without what differs between any two files."""
    if isinstance(got, os.stat_result):
        return seen(got)
    return tuple(map(_plain, got)) if type(got) is tuple else got


def snapshot(top: Path) -> dict[str, Any]:
    """All that is below."""
    found: dict[str, Any] = {".": seen(os.lstat(top))}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content: Any = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()[:100]
            found[os.path.relpath(path, top)] = (*seen(status), content)
    return found
