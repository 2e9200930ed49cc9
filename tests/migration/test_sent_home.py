"""The content of a file without a name, sent to a process that stands for the deputy: this one."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.linux.libc import syscall
from omtools.migration import sent_home
from omtools.migration.calls.model import Arena, Forward
from omtools.migration.sent_home import send_home


class Here:
    """Does the calls in this process, as the deputy would in its own."""

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer(1 << 17)
        self.arena = Arena(ctypes.addressof(self._memory), len(self._memory))
        self.written = 0

    def ask(self, forward: Forward) -> tuple[int, bytes]:
        """Make the call."""
        ctypes.memmove(self._memory, forward.arena, len(forward.arena))
        self.written += len(forward.arena)
        try:
            return syscall(forward.nr, *forward.args), b""
        except OSError as error:
            return -(error.errno or 0), b""


@pytest.fixture
def unlinked(tmp_path: Path) -> Iterator[int]:
    """An open file of 5 GB without a name, most of it a hole."""
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR, 0o640)
    os.write(file, b"begin" * 40_000)
    os.pwrite(file, b"end", (5 << 30) - 3)
    os.utime(file, ns=(1_000_000_007, 2_000_000_009))
    os.unlink(tmp_path / "file")
    yield file
    os.close(file)


def same(copy: int, file: int) -> None:
    one, other = os.fstat(copy), os.fstat(file)
    assert (one.st_size, one.st_mtime_ns, one.st_nlink) == (other.st_size, other.st_mtime_ns, 0)
    assert stat.S_ISREG(one.st_mode)
    for length, position in ((200_000, 0), (100, 1 << 30), (99, (5 << 30) - 99)):
        assert os.pread(copy, length, position) == os.pread(file, length, position)


def test_a_sparse_file_is_sent_without_its_holes(unlinked: int) -> None:
    home = Here()
    copy = send_home(home, f"/proc/self/fd/{unlinked}", os.fstat(unlinked))
    try:
        same(copy, unlinked)
        assert home.written < 1 << 20
    finally:
        os.close(copy)


def test_where_no_disk_takes_it_memory_does(unlinked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_home, "_PLACES", (b"/nowhere\0", b"/proc\0"))
    copy = send_home(Here(), f"/proc/self/fd/{unlinked}", os.fstat(unlinked))
    try:
        same(copy, unlinked)
        assert "memfd" in os.readlink(f"/proc/self/fd/{copy}")
    finally:
        os.close(copy)


def test_what_is_too_large_for_memory_is_refused(unlinked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_home, "_PLACES", (b"/nowhere\0",))
    monkeypatch.setattr(sent_home, "_IN_MEMORY", 100_000)
    with pytest.raises(OSError, match="No space left") as caught:
        send_home(Here(), f"/proc/self/fd/{unlinked}", os.fstat(unlinked))
    assert caught.value.errno == errno.ENOSPC
