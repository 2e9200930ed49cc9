"""omtools.linux.events: signals and futexes as descriptors and wake-ups."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest
from tracees import fork

from omtools.linux.events import ChildEvents, futex_wake
from omtools.linux.libc import fail, syscall

SYS_FUTEX, FUTEX_WAIT = 202, 0


@pytest.fixture
def children() -> Iterator[ChildEvents]:
    events = ChildEvents()
    yield events
    events.close()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def readable(events: ChildEvents, seconds: float) -> bool:
    return bool(select.select([events], [], [], seconds)[0])


def test_a_child_s_end_makes_it_readable(children: ChildEvents) -> None:
    assert not readable(children, 0)
    pid = fork()
    if pid == 0:
        os._exit(0)
    assert readable(children, 20)
    children.clear()
    assert not readable(children, 0)
    assert os.waitpid(pid, os.WNOHANG)[0] == pid
    children.clear()  # nothing there: no matter


def test_many_ends_are_cleared_at_once(children: ChildEvents) -> None:
    pids = []
    for _index in range(5):
        pid = fork()
        if pid == 0:
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    assert readable(children, 20)
    children.clear()
    assert not readable(children, 0)


def test_a_futex_wakes_another_process() -> None:
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    anchor = ctypes.c_uint32.from_buffer(shared)
    address = ctypes.addressof(anchor)
    waiter = fork()
    if waiter == 0:
        try:
            while anchor.value == 0:
                syscall(SYS_FUTEX, address, FUTEX_WAIT, 0)
        except OSError:  # it was faster
            os._exit(0 if anchor.value else 1)
        os._exit(0)
    anchor.value = 1
    futex_wake(address)
    assert os.waitpid(waiter, 0)[1] == 0
    del anchor
    shared.close()


def test_errno_is_each_thread_s_own() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscall(3, 4711)
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.append(fail("").errno))
    thread.start()
    thread.join()
    assert found == [0]
    assert syscall(39) == os.getpid()
