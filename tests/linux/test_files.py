"""omtools.linux.files: system calls that Python does not have."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.linux import files
from omtools.linux.files import Fallocate, Rename, Resolve


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("content")
    (tmp_path / "up").symlink_to("..")
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


def refused(number: int, call: object, *args: object) -> None:
    assert callable(call)
    with pytest.raises(OSError, match=os.strerror(number)):
        call(*args)


def test_openat2_stays_beneath(top: int) -> None:
    fd = files.openat2(top, b"d/f", os.O_RDONLY, resolve=Resolve.BENEATH)
    assert os.read(fd, 10) == b"content"
    assert not os.get_inheritable(fd)
    os.close(fd)
    refused(errno.EXDEV, files.openat2, top, b"d/../../etc", os.O_PATH, 0, Resolve.BENEATH)
    refused(errno.EXDEV, files.openat2, top, b"up", os.O_PATH, 0, Resolve.BENEATH)
    refused(errno.ELOOP, files.openat2, top, b"up/x", os.O_PATH, 0, Resolve.NO_SYMLINKS)


def test_renameat2_has_flags(top: int, tmp_path: Path) -> None:
    (tmp_path / "g").write_text("other")
    refused(errno.EEXIST, files.renameat2, top, b"g", top, b"d", Rename.NOREPLACE)
    files.renameat2(top, b"g", top, b"d", Rename.EXCHANGE)
    assert (tmp_path / "g" / "f").read_text() == "content"
    assert (tmp_path / "d").read_text() == "other"


def test_fallocate_reserves_and_punches(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb+") as file:
        files.fallocate(file.fileno(), 0, 0, 1 << 16)
        assert os.fstat(file.fileno()).st_size == 1 << 16
        files.fallocate(file.fileno(), Fallocate.PUNCH_HOLE | Fallocate.KEEP_SIZE, 0, 1 << 16)
        assert os.fstat(file.fileno()).st_blocks == 0
        refused(errno.EINVAL, files.fallocate, file.fileno(), 0, 0, 0)


def test_times_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    files.set_times(bytes(path), 5, -5, now=77)
    files.set_times(bytes(path), None, 6_000_000_007, now=77)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (5, 6_000_000_007)
    files.set_times(bytes(path), 77, None, now=77)
    assert path.stat().st_atime_ns > 10**18


def test_getdents_tells_names_inodes_and_kinds(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"file{number}").touch()
    (tmp_path / "d").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = []
    while some := files.getdents(fd, 4096):
        found += some
    assert len(found) == 503
    kinds = {entry.name: entry.kind for entry in found}
    assert (kinds[b"."], kinds[b"d"], kinds[b"file7"]) == (4, 4, 8)
    assert {entry.ino for entry in found if entry.name == b"d"} == {(tmp_path / "d").stat().st_ino}
    os.lseek(fd, found[100].cookie, os.SEEK_SET)
    assert files.getdents(fd, 4096)[0] == found[101]
    os.close(fd)


def test_the_type_of_a_file_system() -> None:
    fd = os.open("/proc", os.O_PATH)
    assert files.file_system_type(fd) == 0x9FA0  # PROC_SUPER_MAGIC, linux/magic.h
    os.close(fd)


def test_a_handle_tells_an_inode_from_its_successor(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()

    def handle(name: str) -> files.FileHandle:
        fd = os.open(tmp_path / name, os.O_PATH)
        try:
            return files.name_to_handle_at(fd)
        finally:
            os.close(fd)

    assert handle("a") == handle("a") != handle("b")
    mount = os.open(tmp_path, os.O_RDONLY)
    try:
        fd = files.open_by_handle_at(mount, handle("a"), os.O_PATH)
        assert os.path.samestat(os.fstat(fd), (tmp_path / "a").stat())
        os.close(fd)
    except PermissionError:
        assert os.getuid()
    finally:
        os.close(mount)


def test_a_thread_can_have_a_umask_of_its_own() -> None:
    seen = []

    def work() -> None:
        files.unshare_directory_and_umask()
        os.umask(0o123)
        seen.append(os.umask(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    before = os.umask(0o022)
    os.umask(before)
    assert seen == [0o123]
    assert before != 0o123
    with contextlib.suppress(OSError):
        os.stat("/")
