"""Descriptors, waiting, terminals: the same from the kernel directly and through the loopback."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import struct
from pathlib import Path

import pytest

from migration.calls.calls_loopback import Kernel, Loopback, Room, Scenario, Seen, compare, ints, iovec, words

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@scenario
def descriptors_fcntl(kernel: Kernel, folder: Path) -> Seen:
    fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    other = os.open(folder / "a", os.O_RDWR)
    lock = struct.pack("<hhxxxxqqixxxx", fcntl.F_WRLCK, 0, 5, 10, 0)
    room, pipe = Room(lock), Room(8)
    owner, hint = Room(8), words(0)
    seen: Seen = []
    for call in (
        ("fcntl", fd, fcntl.F_GETFD, 0),
        ("fcntl", fd, fcntl.F_SETFD, 0),
        ("fcntl", fd, fcntl.F_GETFL),
        ("fcntl", fd, fcntl.F_SETFL, os.O_APPEND),
        ("fcntl", fd, fcntl.F_SETLK, Room(lock)),
        ("fcntl", fd, fcntl.F_SETLKW, Room(lock)),
        ("fcntl", fd, fcntl.F_GETLK, room),
        ("fcntl", other, 37, Room(lock)),  # F_OFD_SETLK against our own POSIX lock
        ("fcntl", other, 36, room),
        ("fcntl", fd, fcntl.F_SETLK, None),
        ("fcntl", fd, fcntl.F_DUPFD, 100),
        ("close", 100),
        ("fcntl", fd, fcntl.F_DUPFD_CLOEXEC | (5 << 32), 100),
        ("close", 100),
        ("fcntl", fd, 16, owner),  # F_GETOWN_EX
        ("fcntl", fd, 1035, hint),  # F_GET_RW_HINT
        ("fcntl", fd, 1036, words(2)),
        ("fcntl", fd, 1035, hint),
        ("dup", fd),
        ("dup2", fd, 100),
        ("dup3", fd, 101, os.O_CLOEXEC),
        ("dup3", fd, fd, 0),
        ("close_range", 100, 101, 0),
        ("close", other + 1),
        ("flock", fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ("flock", other, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ("pipe", pipe),
        ("pipe2", pipe, os.O_NONBLOCK),
        ("pipe2", pipe, 0x7FFF_FFFF),
        ("pipe", None),
    ):
        result = kernel(call[0], *call[1:])
        seen += [result, room.bytes, pipe.bytes, owner.bytes, hint.bytes]
    for n in range(4):
        os.close(other + 1 + n)
    os.close(fd)
    os.close(other)
    return seen


@scenario
def descriptors_events(kernel: Kernel, folder: Path) -> Seen:
    event = kernel("eventfd2", 3, 0)
    room = Room(24)
    seen: Seen = [kernel("read", event, room, 8), room.bytes, kernel("write", event, words(9), 8)]
    watch = kernel("inotify_init1", os.O_NONBLOCK)
    seen += [event, watch, kernel("inotify_add_watch", watch, bytes(folder), 0x100)]
    (folder / "new").touch()
    notes = Room(200)
    seen += [kernel("read", watch, notes, 200), notes.bytes, kernel("inotify_rm_watch", watch, 1)]
    vector = kernel("readv", watch, iovec(notes, room), 2)
    seen += [vector, notes.bytes]
    memory = kernel("memfd_create", b"x" * 249, 0)
    seen += [memory, kernel("memfd_create", b"x" * 250, 0), kernel("close", memory)]
    timer = kernel("timerfd_create", 1, 0)
    old = Room(32)
    seen += [
        timer,
        kernel("timerfd_settime", timer, 0, words(0, 0, 0, 1), old),
        old.bytes,
        kernel("read", timer, room, 8),
        kernel("timerfd_gettime", timer, old),
        old.bytes,
        room.bytes,
    ]
    for fd in (event, watch, timer):
        kernel("close", fd)
    return seen


@scenario
def descriptors_poll(kernel: Kernel, _folder: Path) -> Seen:
    reading, writing = os.pipe()
    polls = Room(struct.pack("<ihhihhihh", reading, select.POLLIN, 99, writing, select.POLLOUT, 0, 999, 1, 0))
    seen: Seen = [
        kernel("poll", polls, 3, 0),
        polls.bytes,
        kernel("poll", polls, 1, 1),
        polls.bytes,
        kernel("poll", polls, 0, 0),
        kernel("poll", None, 0, 0),
        kernel("poll", None, 2, 0),
        kernel("poll", polls, 0x7FFF_FFFF, 0),
        kernel("poll", polls, 0xDEAD_0000_0003, -1 & 0xFFFF_FFFF),
    ]
    wait = words(0, 1000)
    seen += [kernel("ppoll", polls, 1, wait, words(1 << 11), 8), polls.bytes, wait.bytes]
    os.write(writing, b"x")
    wait = words(50, 1000)
    seen += [kernel("ppoll", polls, 3, None, None, 0), polls.bytes]
    seen += [kernel("ppoll", polls, 3, wait, None, 0), wait.bytes[:1] in (b"\x31", b"\x32")]
    seen += [kernel("ppoll", polls, 3, wait, words(0), 7), kernel("ppoll", polls, 3, words(0, -1), None, 0)]
    os.close(reading)
    os.close(writing)
    return seen


def _set(*fds: int) -> Room:
    bits = sum(1 << fd for fd in fds)
    return Room(bits.to_bytes(128, "little"))


@scenario
def descriptors_select(kernel: Kernel, _folder: Path) -> Seen:
    reading, writing = os.pipe()
    r, w, e = _set(reading), _set(writing), _set(reading)
    wait = words(0, 1000)
    seen: Seen = [kernel("select", writing + 1, r, w, e, wait), r.bytes, w.bytes, e.bytes]
    seen += [kernel("select", writing + 1, _set(reading), None, None, wait), wait.bytes]
    seen += [kernel("select", 0, None, None, None, words(0, 1))]
    seen += [kernel("select", -1, r, w, e, None), kernel("select", 1024, _set(999), None, None, None)]
    os.write(writing, b"x")
    r, wait = _set(reading), words(100, 0)
    mask = words(0)
    pack = words(mask.address, 8)
    seen += [kernel("pselect6", writing + 1, r, None, None, wait, pack), r.bytes, wait.bytes[1:8]]
    seen += [kernel("pselect6", writing + 1, r, None, None, None, words(0, 8)), r.bytes]
    seen += [kernel("pselect6", writing + 1, r, None, None, None, words(mask.address, 7))]
    seen += [kernel("pselect6", writing + 1, r, None, None, None, None)]
    os.close(reading)
    os.close(writing)
    return seen


@scenario
def descriptors_epoll(kernel: Kernel, _folder: Path) -> Seen:
    reading, writing = os.pipe()
    poll = kernel("epoll_create1", 0)
    event, many = Room(struct.pack("<IQ", select.EPOLLOUT, 0x1122334455667788)), Room(12 * 10)
    seen: Seen = []
    for call in (
        ("epoll_ctl", poll, 1, writing, event),
        ("epoll_ctl", poll, 1, writing, event),
        ("epoll_ctl", poll, 1, reading, None),
        ("epoll_ctl", poll, 3, writing, event),
        ("epoll_wait", poll, many, 10, 0),
        ("epoll_wait", poll, many, 10, -1),
        ("epoll_wait", poll, many, 0, 0),
        ("epoll_wait", poll, many, -1, 0),
        ("epoll_wait", poll, many, 0x7FFF_FFFF, 0),
        ("epoll_wait", poll, many, 100000, 0),
        ("epoll_pwait", poll, many, 10, 5, words(0), 8),
        ("epoll_pwait", poll, many, 10, 5, None, 8),
        ("epoll_pwait2", poll, many, 10, words(1, 0), None, 8),
        ("epoll_pwait2", poll, many, 10, None, words(0), 8),
        ("epoll_ctl", poll, 2, writing, 16),
        ("epoll_pwait2", poll, many, 10, words(0, 5), None, 8),
        ("epoll_wait", poll, many, 10, 1),
        ("epoll_wait", writing, many, 10, 1),
    ):
        seen += [kernel(call[0], *call[1:]), many.bytes]
    for fd in (poll, reading, writing):
        os.close(fd)
    return seen


@scenario
def terminals(kernel: Kernel, _folder: Path) -> Seen:
    master, slave = pty.openpty()
    settings, size, number = Room(64), Room(12), Room(8)
    seen: Seen = []
    for fd, request, argument in (
        (slave, 0x5401, settings),  # TCGETS
        (slave, 0x5402, settings),  # TCSETS
        (slave, 0x5404, settings),  # TCSETSF
        (slave, 0x802C542A, settings),  # TCGETS2
        (slave, 0x402C542B, settings),  # TCSETS2
        (slave, 0x5405, settings),  # TCGETA
        (slave, 0x5414, Room(struct.pack("<4H", 24, 80, 3, 4))),  # TIOCSWINSZ
        (master, 0x5413, size),  # TIOCGWINSZ
        (master, 0x5420, ints(1)),  # TIOCPKT
        (master, 0x80045438, number),  # TIOCGPKT
        (master, 0x40045431, ints(0)),  # TIOCSPTLCK
        (master, 0x80045439, number),  # TIOCGPTLCK
        (slave, 0x541B, number),  # FIONREAD
        (slave, 0x5411, number),  # TIOCOUTQ
        (slave, 0x5424, number),  # TIOCGETD
        (slave, 0x5409, 1),  # TCSBRK
        (slave, 0x540B, 0),  # TCFLSH
        (slave, 0x540F, number),  # TIOCGPGRP: not our terminal
        (slave, 0x5429, number),  # TIOCGSID
        (slave, 0x5410, ints(1)),  # TIOCSPGRP
        (slave, 0x5401, None),
        (slave | 1 << 40, 0x5401 | 1 << 40, settings),
        (999, 0x5401, settings),
    ):
        result = kernel("ioctl", fd, request, argument)
        seen += [result, settings.bytes, size.bytes, number.bytes]
    seen.append(kernel("ioctl", master, 0x80045430, number))  # TIOCGPTN
    seen.append(number.bytes[4:])
    os.close(master)
    os.close(slave)
    return seen


@scenario
def requests(kernel: Kernel, folder: Path) -> Seen:
    reading, writing = os.pipe()
    os.write(writing, b"12345")
    fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    network = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number, interface = Room(16), Room(b"lo".ljust(40, b"\0"))
    extents = Room(struct.pack("<QQIIII", 0, 1 << 20, 0, 0, 2, 0) + bytes(112))
    seen: Seen = []
    for fd_, request, argument in (
        (reading, 0x541B, number),  # FIONREAD
        (reading, 0x5421, ints(1)),  # FIONBIO
        (reading, 0x5451, 0),  # FIOCLEX
        (reading, 0x5401, number),  # TCGETS: ENOTTY
        (fd, 2, number),  # FIGETBSZ
        (fd, 0x80086601, number),  # FS_IOC_GETFLAGS
        (fd, 0x80087601, Room(16)),  # FS_IOC_GETVERSION
        (fd, 0x801C581F, Room(32)),  # FS_IOC_FSGETXATTR
        (fd, 0xC020660B, extents),  # FS_IOC_FIEMAP
        (fd, 0x40049409, reading),  # FICLONE
        (network.fileno(), 0x8933, interface),  # SIOCGIFINDEX
        (network.fileno(), 0x8921, interface),  # SIOCGIFMTU
        (network.fileno(), 0x8913, interface),  # SIOCGIFFLAGS
        (network.fileno(), 0x8904, number),  # SIOCGPGRP
        (network.fileno(), 0x8933, None),
    ):
        seen += [kernel("ioctl", fd_, request, argument), number.bytes, interface.bytes, extents.bytes[32:]]
    # SIOCGIFCONF: how long the list would be, the list, and only a part of it
    found = Room(400)
    for size, room in ((0, None), (400, found), (-1, found), (40, found), (20, found)):
        request_ = Room(struct.pack("<iiQ", size, 7, room.address if room else 0))
        seen += [kernel("ioctl", network.fileno(), 0x8912, request_), request_.bytes[:8], found.bytes]
    network.close()
    for each in (reading, writing, fd):
        os.close(each)
    return seen


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_forwarded_is_as_direct(act: Scenario) -> None:
    compare(act)


def test_timeouts_survive_in_the_process() -> None:
    """What select leaves of its timeout is written where the process has it, on a timeout too."""
    loopback = Loopback()
    wait = words(0, 2000)
    assert loopback("select", 0, None, None, None, wait) == 0
    assert wait.bytes == bytes(16)
    loopback.close()
