"""Fifos and sockets on a mount of several users: the kernel lets everybody open them, and asks nobody."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator

import pytest
from linux.fuse_support import ended, forked, needs_root, own_mounts

from omfs.fuse_support import USER, Place, place

pytestmark = needs_root


@pytest.fixture(scope="module")
def users() -> Iterator[Place]:
    with own_mounts(), place("users") as made:
        yield made


def as_the_user(body: Callable[[], object]) -> int:
    """The exit status of a child with the user's rights."""

    def with_rights() -> None:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        body()

    return ended(forked(with_rights))


def test_a_fifo_is_a_meeting_place_of_those_who_may_use_it(users: Place) -> None:
    path = users.mount / "fifo"
    os.mkfifo(path, 0o600)

    def write(expected: bytes) -> None:
        file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        assert os.write(file, b"theirs") == 6
        assert os.read(file, 100) == expected + b"theirs"

    try:
        reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        os.write(reader, b"secret")
        assert as_the_user(lambda: write(b"")) == 0
        assert os.read(reader, 100) == b"secret"
        os.chmod(path, 0o666)
        os.write(reader, b"public")
        assert as_the_user(lambda: write(b"public")) == 0
        os.write(reader, b"secret again")
        os.chmod(path, 0o644)
        assert as_the_user(lambda: write(b"")) == 0
        assert os.read(reader, 100) == b"secret again"
        os.close(reader)
        assert stat.S_ISFIFO(os.stat(path).st_mode)
    finally:
        path.unlink()


def test_a_socket_is_reached_by_those_who_may(users: Place) -> None:
    path = str(users.mount / "socket")

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)

    def refused() -> None:
        with pytest.raises(ConnectionRefusedError):
            connect()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        connect()
        os.chmod(path, 0o700)
        assert as_the_user(refused) == 0
        os.chmod(path, 0o777)
        assert as_the_user(connect) == 0
    os.unlink(path)
