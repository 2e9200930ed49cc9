"""omtools.linux.locks: locks of an open file, and how waiting for them is broken off."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omtools.linux.locks import Range, Waiting, get_conflict, set_lock, wait_for_flock, wait_for_lock

WRITE = Range(fcntl.F_WRLCK, 0, 0)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    path = tmp_path / "f"
    path.touch()
    fds = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield fds
    for fd in fds:
        os.close(fd)


def test_two_open_files_of_one_process_conflict(pair: tuple[int, int]) -> None:
    one, two = pair
    set_lock(one, Range(fcntl.F_WRLCK, 10, 5))
    assert get_conflict(two, WRITE) == Range(fcntl.F_WRLCK, 10, 5, -1)
    assert get_conflict(one, WRITE) is None
    assert get_conflict(two, Range(fcntl.F_WRLCK, 0, 10)) is None
    with pytest.raises(BlockingIOError):
        set_lock(two, WRITE)
    set_lock(one, Range(fcntl.F_UNLCK, 0, 0))
    set_lock(two, WRITE)


def waiter(call: Callable[[], None]) -> tuple[threading.Thread, list[int]]:
    outcome: list[int] = []

    def run() -> None:
        try:
            call()
            outcome.append(0)
        except OSError as error:
            outcome.append(error.errno or -1)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("round_", range(20))
def test_waiting_is_broken_off_whenever(pair: tuple[int, int], round_: int) -> None:
    one, two = pair
    set_lock(one, WRITE)
    fcntl.flock(one, fcntl.LOCK_EX)
    waiting = Waiting()
    thread, outcome = waiter(
        (lambda: wait_for_lock(two, WRITE, waiting))
        if round_ % 2
        else (lambda: wait_for_flock(two, fcntl.LOCK_SH, waiting))
    )
    if round_ > 10:
        threading.Event().wait(0.002)  # it sleeps in the kernel by then, most likely
    waiting.break_off()
    thread.join(60)
    assert outcome == [errno.EINTR]


def test_waiting_ends_with_the_lock(pair: tuple[int, int]) -> None:
    one, two = pair
    set_lock(one, WRITE)
    waiting = Waiting()
    thread, outcome = waiter(lambda: wait_for_lock(two, WRITE, waiting))
    set_lock(one, Range(fcntl.F_UNLCK, 0, 0))
    thread.join(60)
    assert outcome == [0]
    waiting.break_off()  # too late, and harmless
    assert get_conflict(one, WRITE) is not None


def test_another_error_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        wait_for_lock(fd, WRITE, Waiting())
    os.close(fd)
