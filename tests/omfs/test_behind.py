"""Large writes: in steps, while they arrive, and whole when they are answered."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omfs.support import refused
from omtools.omfs.behind import STEP
from omtools.omfs.client import RemoteFiles
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import MAX_TRANSFER, NOBODY, ROOT, Buffer
from omtools.omfs.server import Sessions, serve
from omtools.omfs.stream import Frames, Stream
from omtools.omfs.wire import HEADER, MAGIC, REQUESTS, VERSION, Hello, Kind, pack_write


class Small(LocalFiles):
    """Has room for so much in a file; the last that fits is written."""

    room = 1 << 62

    def write(self, file: int, offset: int, data: Buffer, append: bool | None = None) -> int:
        if offset >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(file, offset, memoryview(data)[: self.room - offset], append)


@contextlib.contextmanager
def served(directory: Path, room: int = 1 << 62) -> Iterator[tuple[RemoteFiles, Sessions]]:
    threads: list[threading.Thread] = []
    made = type("Sized", (Small,), {"room": room})
    sessions = Sessions(lambda: made(only(str(directory))))

    def connect() -> Stream:
        ours, theirs = socket.socketpair()
        threads.append(threading.Thread(target=serve, args=(ours, sessions)))
        threads[-1].start()
        return theirs

    files = RemoteFiles(connect, 60)
    try:
        yield files, sessions
    finally:
        files.close()
        for thread in threads:
            thread.join(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "omfs-behind"]


@pytest.mark.parametrize("size", [4 * STEP, 4 * STEP + 1, 5 * STEP - 1, 11 * STEP + 5, MAX_TRANSFER])
def test_all_of_it_is_there(tmp_path: Path, size: int) -> None:
    with served(tmp_path) as (files, _sessions):
        file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file
        for round_ in range(3):
            data = random.Random(size + round_).randbytes(size)
            assert files.write(file, round_ * size, data, False) == size
            assert (tmp_path / "f").read_bytes()[round_ * size :] == data
        assert files.write(file, 0, data, True) == size  # appended in one step
        assert (tmp_path / "f").read_bytes()[3 * size :] == data


def test_as_much_as_there_is_room_for(tmp_path: Path) -> None:
    room = 3 * STEP + 100
    with served(tmp_path, room) as (files, _sessions):
        file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file
        assert files.write(file, 0, bytes(MAX_TRANSFER), False) == room
        refused(errno.ENOSPC, files.write, file, room, bytes(MAX_TRANSFER), False)
        refused(errno.EBADF, files.write, file + 1, 0, bytes(MAX_TRANSFER), False)
        assert files.getattr(NOBODY, ROOT).nlink >= 2  # the conversation goes on
        assert (tmp_path / "f").stat().st_size == room


def test_a_client_that_goes_in_the_middle_of_it(tmp_path: Path) -> None:
    sessions = Sessions(lambda: LocalFiles(only(str(tmp_path))))
    (tmp_path / "f").touch()
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(ours, sessions))
    thread.start()
    frames = Frames(theirs)
    frames.send(Kind.HELLO, 1, REQUESTS[Kind.HELLO].pack(Hello(MAGIC, VERSION, b"t" * 16, True)))
    frames.receive()
    frames.send(Kind.LOOKUP, 2, REQUESTS[Kind.LOOKUP].pack((ROOT, b"f")))
    node = int.from_bytes(frames.receive()[2][:8], "little")
    frames.send(Kind.OPEN, 3, REQUESTS[Kind.OPEN].pack((node, os.O_WRONLY)))
    file = int.from_bytes(frames.receive()[2][:8], "little")
    head = pack_write(file, 0, False)
    theirs.sendall(HEADER.pack(len(head) + MAX_TRANSFER, Kind.WRITE, 4) + head + b"x" * (2 * STEP + 5))
    frames.close()
    thread.join(60)
    assert not thread.is_alive()
    assert (tmp_path / "f").read_bytes() == b"x" * (2 * STEP)
