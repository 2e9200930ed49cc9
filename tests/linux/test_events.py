"""omtools.linux.events: signals and futexes as descriptors and wake-ups."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import threading
import traceback
from collections.abc import Callable

import pytest
from tracees import fork

from omtools.linux.events import ChildEvents, futex_wake
from omtools.linux.libc import fail, syscall

SYS_FUTEX, FUTEX_WAIT = 202, 0


def in_a_process_with_one_thread(work: Callable[[ChildEvents], None]) -> None:
    """As keepers have it: where a thread does not block SIGCHLD (pytest-xdist has such), that one gets it."""
    pid = fork()
    if pid == 0:
        status = 1
        try:
            events = ChildEvents()
            work(events)
            events.close()
            status = 0
        except AssertionError:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def readable(events: ChildEvents, seconds: float) -> bool:
    return bool(select.select([events], [], [], seconds)[0])


def child_that_ends() -> int:
    pid = fork()
    if pid == 0:
        os._exit(0)
    return pid


def test_a_child_s_end_makes_it_readable() -> None:
    def work(events: ChildEvents) -> None:
        assert not readable(events, 0)
        pid = child_that_ends()
        assert readable(events, 20)
        events.clear()
        assert not readable(events, 0)
        assert os.waitpid(pid, os.WNOHANG)[0] == pid
        events.clear()  # nothing there: no matter

    in_a_process_with_one_thread(work)


def test_many_ends_are_cleared_at_once() -> None:
    def work(events: ChildEvents) -> None:
        for pid in [child_that_ends() for _index in range(5)]:
            os.waitpid(pid, 0)
        assert readable(events, 20)
        events.clear()
        assert not readable(events, 0)

    in_a_process_with_one_thread(work)


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
