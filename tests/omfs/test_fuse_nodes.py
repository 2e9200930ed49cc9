"""omtools.omfs.fuse and fuse_nodes without a mount: who counts what, and whose node is whose."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from omfs.support import local, remote, service
from omtools.linux.fuse import abi
from omtools.linux.fuse.handler import Directory, Request
from omtools.omfs.client import RemoteFiles
from omtools.omfs.exports import only
from omtools.omfs.fuse import FilesHandler
from omtools.omfs.fuse_open import changes_of
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import ROOT, UTIME_NOW, Caller, Changes, Entry

NOTHING = memoryview(b"")


def ask(node: int, uid: int = 0) -> Request:
    return Request(0, 2, node, uid, uid, 4711, NOTHING, memoryview(bytearray(8192)))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_text("hello")
    (tmp_path / "g").write_text("other")
    return tmp_path


@pytest.fixture
def users(top: Path) -> Iterator[tuple[FilesHandler, list[LocalFiles]]]:
    """Two users, each with files of their own, of one directory."""
    with local(top) as first, local(top) as second:
        both = [first, second]
        yield FilesHandler(lambda uid, _gid, _pid: both[uid]), both


def walk(handler: FilesHandler, *names: bytes, uid: int = 0) -> list[int]:
    nodes = [ROOT]
    for name in names:
        nodes.append(handler.lookup(ask(nodes[-1], uid), name).node)
    return nodes


def test_forgetting_gives_back_what_was_counted(users: tuple[FilesHandler, list[LocalFiles]]) -> None:
    handler, both = users
    nodes = walk(handler, b"d", b"e", b"f")
    assert walk(handler, b"d", b"e", b"f") == nodes
    assert walk(handler, b"d", b"e", b"f", uid=1) == nodes  # the same for whoever looks
    assert [len(files._nodes) for files in both] == [4, 4]
    for node in reversed(nodes[1:]):
        handler.forget(node, 2)
        assert handler.getattr(ask(node), None).ino
        handler.forget(node, 1)
        with pytest.raises(OSError, match="Stale"):
            handler.getattr(ask(node), None)
    assert walk(handler, b"d", b"e", b"f", uid=1) != nodes
    handler.forget_many([(node, 1) for node in list(handler._nodes._nodes)])
    handler.forget(4711, 1)
    handler.forget(ROOT, 1)
    assert [len(files._nodes) for files in both] == [1, 1]
    assert len(handler._nodes) == 1


def test_names_that_do_not_fit_are_forgotten(users: tuple[FilesHandler, list[LocalFiles]], top: Path) -> None:
    handler, both = users
    for number in range(50):
        (top / f"{number:02}").touch()
    handle = handler.opendir(ask(ROOT), 0).fh
    directory = Directory(1000, True, (0, 0, 0, 0))
    handler.readdir(ask(ROOT), handle, 0, directory)
    packed = directory.packed()
    found, cookies = 0, []
    while packed:
        found += bool(abi.ENTRY_OUT.unpack_from(packed)[0])
        _ino, cookie, length, _kind = abi.DIRENT.unpack_from(packed, 128)
        cookies.append(cookie)
        packed = packed[128 + (24 + length + 7) // 8 * 8 :]
    assert found
    assert len(both[0]._nodes) == 1 + found == len(handler._nodes)
    rest = Directory(1 << 20, False, (0, 0, 0, 0))
    handler.readdir(ask(ROOT), handle, cookies[-1], rest)
    assert rest.packed()
    handler.releasedir(ask(ROOT), handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        handler.readdir(ask(ROOT), handle, 0, rest)


def test_a_node_that_another_user_found(users: tuple[FilesHandler, list[LocalFiles]], top: Path) -> None:
    handler, _both = users
    nodes = walk(handler, b"d", b"e", b"f")
    assert handler.getattr(ask(nodes[-1], uid=1), None).size == 5
    handler.rename(ask(nodes[1]), b"e", ROOT, b"moved", 0)
    handler.rename(ask(nodes[2]), b"f", nodes[2], b"renamed", 0)
    again = walk(handler, b"g")[-1]
    assert handler.getattr(ask(nodes[-1], uid=1), None).size == 5
    handler.rename(ask(ROOT), b"g", ROOT, b"h", 0)
    assert handler.getattr(ask(again, uid=1), None).ino == os.stat(top / "h").st_ino
    handler.rename(ask(ROOT), b"h", nodes[2], b"renamed", 2)  # RENAME_EXCHANGE
    assert handler.getattr(ask(again), None).ino == os.stat(top / "moved/renamed").st_ino


def test_another_file_of_the_same_name_is_another_node(users: tuple[FilesHandler, list[LocalFiles]], top: Path) -> None:
    handler, _both = users
    node = walk(handler, b"g")[-1]
    (top / "new").write_text("x" * 9)
    (top / "new").rename(top / "g")
    with pytest.raises(OSError, match="Stale"):
        handler.getattr(ask(node, uid=1), None)
    fresh = walk(handler, b"g", uid=1)[-1]
    assert fresh != node
    assert handler.getattr(ask(fresh), None).size == 9
    assert handler.getattr(ask(node), None).size == 5  # unlinked, and still known to the one who has it
    (top / "g").unlink()
    with pytest.raises(FileNotFoundError):
        handler.lookup(ask(ROOT), b"g")


def test_a_server_that_was_gone_is_found_again(top: Path) -> None:
    with service(top) as running:
        files = RemoteFiles(running.connect, 60)
        handler = FilesHandler(lambda _uid, _gid, _pid: files)
        nodes = walk(handler, b"d", b"e", b"f")
        opened = handler.open(ask(nodes[-1]), os.O_RDONLY, False).fh
        request = ask(nodes[-1])
        assert handler.read(request, abi.ReadIn(opened, 0, 5, 0, 0, 0)) == 5
        running.stop()
        with pytest.raises(OSError, match=r"down|broken|Input") as caught:
            handler.getattr(ask(nodes[-1]), None)
        assert caught.value.errno in {errno.EHOSTDOWN, errno.EIO}
        running.start()
        assert handler.getattr(ask(nodes[-1]), None).size == 5
        assert walk(handler, b"d", b"e", b"f") == nodes
        made, _opened = handler.create(ask(nodes[2]), b"new", os.O_RDWR, 0o600, 0, False)
        assert stat.S_IMODE(made.attributes.mode) == 0o600
        with pytest.raises(OSError, match="Stale"):  # what was open is lost
            handler.read(request, abi.ReadIn(opened, 0, 5, 0, 0, 0))
        handler.release(ask(nodes[-1]), abi.ReleaseIn(opened, 0, 0, 0))
        handler.ended()
        files.close()


def test_files_that_are_elsewhere_are_not_passed_through(top: Path) -> None:
    with remote(top) as files:
        handler = FilesHandler(lambda _uid, _gid, _pid: files)
        node = walk(handler, b"g")[-1]
        assert not handler.open(ask(node), os.O_RDONLY, False).flags & abi.Fopen.PASSTHROUGH
        handler.ended()


def test_who_asks_is_passed_on(top: Path) -> None:
    class Noting(LocalFiles):
        callers: list[Caller] = []  # noqa: RUF012 - of this one class

        def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:
            self.callers.append(caller)
            return super().lookup(caller, parent, name)

        def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry:
            self.callers.append(caller)
            return super().mkdir(caller, parent, name, mode)

    asked = []
    files = Noting(only(str(top)))

    def files_for(uid: int, gid: int, pid: int) -> LocalFiles:
        asked.append((uid, gid, pid))
        if uid != 7:
            raise PermissionError(errno.EACCES, "nobody else")
        return files

    handler = FilesHandler(files_for)
    walk(handler, b"g", uid=7)
    handler.mkdir(ask(ROOT, 7), b"made", 0o777, 0o27)
    assert files.callers == [Caller(4711, 0), Caller(4711, 0o27)]
    assert asked == [(7, 7, 4711)] * 2
    assert stat.S_IMODE(os.stat(top / "made").st_mode) == 0o750
    with pytest.raises(PermissionError, match="nobody else"):
        walk(handler, b"g", uid=8)
    files.close()


def test_which_attributes_change() -> None:
    def change(valid: int) -> Changes:
        return changes_of(abi.SetattrIn(valid, 1, 77, 3, 4, 5, 6, 7, 8, 9, 0o100640, 11, 12))

    assert change(0) == Changes()
    assert change(abi.Fattr.MODE | abi.Fattr.UID) == Changes(mode=0o640, uid=11)
    assert change(abi.Fattr.GID | abi.Fattr.SIZE | abi.Fattr.FH) == Changes(gid=12, size=77)
    assert change(abi.Fattr.ATIME | abi.Fattr.MTIME) == Changes(atime_ns=4_000_000_007, mtime_ns=5_000_000_008)
    now = abi.Fattr.ATIME | abi.Fattr.ATIME_NOW | abi.Fattr.MTIME | abi.Fattr.MTIME_NOW
    assert change(now) == Changes(atime_ns=UTIME_NOW, mtime_ns=UTIME_NOW)
