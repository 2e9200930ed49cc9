"""Blocked in a system call, moved in the midst of it: it ends as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from omtools.migration.calls.table import TABLE

from .journey import ROUTES, Traveller, build, ended, expect, rest, running, tell
from .nest import Nest

NUMBERS = {call.name: number for number, call in TABLE.items()}

# Scenario of programs/blocked.c: the call it blocks in, bytes that make an end of it, what it says then.
CASES: dict[str, tuple[str, bytes, str]] = {
    "read_pipe": ("read", b"x", "5 hello\n"),
    "readv_pipe": ("readv", b"x", "5 he llo\n"),
    "read_terminal": ("read", b"x", "6 hello\n"),
    "read_socket": ("read", b"x", "5 hello\n"),
    "read_eventfd": ("read", b"x", "8 8\n"),
    "read_timerfd": ("read", b"x", "8 1\n"),
    "read_inotify": ("read", b"x", "32 touched\n"),
    "poll_pipe": ("poll", b"x", "1 1 0\n"),
    "ppoll_pipe": ("ppoll", b"x", "1 1\n"),
    "ppoll_signal": ("ppoll", b"x", "-1 EINTR\n1 0\n"),
    "select_pipe": ("select", b"x", "1 1\n"),
    "pselect_pipe": ("pselect6", b"x", "1 1\n"),
    "epoll_plain": ("epoll_wait", b"x", "1 1 123456789abcdef0\n"),
    "epoll_masked": ("epoll_pwait", b"x", "1 1 123456789abcdef0\n"),
    "epoll_second": ("epoll_pwait2", b"x", "1 1 123456789abcdef0\n"),
    "wait_child": ("wait4", b"x", "1 42 1\n-1 ECHILD\n"),
    "waitid_child": ("waitid", b"x", "0 17 1 1 42\n"),
    "write_pipe": ("write", b"x", "65536 4096\n"),
    "accept_caller": ("accept", b"x", "1 1 2\n5 hello\n"),
    "accept_inet": ("accept4", b"x", "1 2 7f000001\n5 hello\n"),
    "connect_full": ("connect", b"x", "0 -\n"),
    "recv_from": ("recvfrom", b"x", "5 hello caller 9\n"),
    "recv_descriptor": ("recvmsg", b"x", "5 hello 6 inside\n"),
    "recv_many": ("recvmmsg", b"x", "1 5 hello\n"),
    "lock_file": ("flock", b"x", "0 -\n-1 EAGAIN\n"),
    "lock_record": ("fcntl", b"x", "0 -\n"),
    "suspend": ("rt_sigsuspend", b"x", "-1 EINTR\n1 1\n"),
    "wait_signal": ("rt_sigtimedwait", b"x", "1 0 1\n"),
    "pause": ("pause", b"x", "-1 EINTR\n1\n"),
    "read_eintr": ("read", b"x", "-1 EINTR\n1\n"),
    "read_restart": ("read", b"xx", "handler\n5 hello\n"),
    "futex_eintr": ("futex", b"x", "-1 EINTR\n"),
    "nanosleep_eintr": ("nanosleep", b"x", "-1 EINTR\n1\n"),
    "open_fifo": ("openat", b"x", "5 hello\n"),
    "receive_message": ("msgrcv", b"x", "6 7 hello\n"),
    "lower_semaphore": ("semtimedop", b"x", "0 -\n"),
    "receive_queue": ("mq_timedreceive", b"x", "5 hello 9\n"),
    "splice_pipe": ("splice", b"x", "5 5 hello\n"),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", CASES)
async def test_moved_while_blocked(nest: Nest, tmp_path: Path, workshop: Path, case: str, route: str) -> None:
    call, words, said = CASES[case]
    async with running(build("blocked", workshop), case, cwd=tmp_path) as process:
        traveller = Traveller(nest, process.pid)
        await expect(process, "ready")
        await traveller.blocked_in(NUMBERS[call])
        for node in ROUTES[route]:
            await traveller.go([node])
            await traveller.blocked_in(NUMBERS[call])
        for word in words:
            tell(process, bytes([word]))
        assert await rest(process) == said
        assert await ended(process) == 0
