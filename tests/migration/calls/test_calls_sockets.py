"""Sockets and queues: the same from the kernel directly and through plan, collect, land."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from migration.calls.calls_loopback import Kernel, Room, Scenario, Seen, compare, ints, iovec, words

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@scenario
def sockets_stream(kernel: Kernel, folder: Path) -> Seen:
    address = struct.pack("<H", socket.AF_UNIX) + bytes(folder / "s")
    where, room, size = Room(address), Room(40), ints(40)
    seen: Seen = []
    server = kernel("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
    client = kernel("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
    for call in (
        ("bind", server, where, len(address)),
        ("bind", server, where, 129),
        ("bind", server, where, -1),
        ("bind", server, None, 10),
        ("listen", server, 5),
        ("getsockname", server, Room(140), ints(140)),
        ("getsockname", server, room, size),
        ("getsockname", server, room, ints(-1)),
        ("getsockname", server, room, None),
        ("getsockname", server, room, ints(0)),
        ("getpeername", client, room, size),
        ("connect", client, where, len(address)),
        ("accept", server, None, None),
        ("getpeername", client, Room(8), ints(8)),
        ("sendto", client, Room(b"hello"), 5, 0, None, 0),
        ("sendto", client, Room(b"hello"), 5, 0, where, -1),
        ("recvfrom", client + 1, room, 40, socket.MSG_PEEK, Room(20), ints(20)),
        ("recvfrom", client + 1, room, 3, 0, None, None),
        ("recvfrom", client + 1, room, 40, socket.MSG_DONTWAIT, None, 16),
        ("recvfrom", client + 1, room, 40, socket.MSG_DONTWAIT, None, None),
        ("shutdown", client, socket.SHUT_WR),
        ("recvfrom", client + 1, room, 40, 0, None, None),
        ("accept4", server | 1 << 35, room, size, os.O_NONBLOCK | 1),
    ):
        seen.append(kernel(call[0], *call[1:]))
        seen += [arg.bytes for arg in call if isinstance(arg, Room) and arg is not where]
    for fd in (server, client, client + 1):
        os.close(fd)
    return seen


@scenario
def sockets_datagram(kernel: Kernel, _folder: Path) -> Seen:
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    a.bind(("127.0.0.1", 0))
    b.bind(("127.0.0.1", 0))
    port = struct.pack(">H", b.getsockname()[1])
    to = Room(struct.pack("<H", socket.AF_INET) + port + bytes([127, 0, 0, 1] + [0] * 8))
    came = struct.pack(">H", a.getsockname()[1])
    room, name, size = Room(30), Room(20), ints(20)
    seen: Seen = [kernel("sendto", a.fileno(), Room(b"datagram"), 8, 0, to, 16)]
    seen += [kernel("recvfrom", b.fileno(), room, 4, socket.MSG_TRUNC, name, size)]
    seen += [room.bytes, name.bytes.replace(came, b"PP"), size.bytes]
    message = _message(to, [Room(b"several "), Room(b"pieces")], b"")
    seen += [kernel("sendmsg", a.fileno(), message, 0)]
    x, y, name = Room(3), Room(30), Room(40)
    header = _message(name, [x, y], b"")
    seen += [kernel("recvmsg", b.fileno(), header, 0), x.bytes, y.bytes, name.bytes.replace(came, b"PP")]
    seen += [_numbers(header), kernel("recvmsg", b.fileno(), header, socket.MSG_DONTWAIT)]
    seen += [kernel("recvmsg", b.fileno(), None, 0), kernel("sendmsg", b.fileno(), 16, 0)]
    a.close()
    b.close()
    return seen


def _message(name: Room | None, rooms: list[Room], control: bytes, keep: list[Room] | None = None) -> Room:
    vector, ancillary = iovec(*rooms), Room(control)
    where, length = (name.address, name.size) if name else (0, 0)
    control_at = ancillary.address if control else 0
    fields = (where, length, 0, vector.address, len(rooms), control_at, len(control), 0, 0)
    # what it points to must live as long as it does
    message = Room(struct.pack("<QiiQQQQii", *fields), name, vector, ancillary, *rooms)
    if keep is not None:
        keep.append(ancillary)
    return message


def _numbers(message: Room) -> tuple[int, ...]:
    """The fields of a msghdr that are no pointers."""
    fields = struct.unpack("<QiiQQQQii", message.bytes[:56])
    return fields[1], fields[4], fields[6], fields[7]


@scenario
def sockets_descriptors_travel(kernel: Kernel, folder: Path) -> Seen:
    (folder / "a").write_bytes(b"content")
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.open(folder / "a", os.O_RDONLY)
    rights = struct.pack("<Qiiii", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, fd, 0)
    seen: Seen = [kernel("sendmsg", a.fileno(), _message(None, [Room(b"take it")], rights), 0)]
    keep: list[Room] = []
    room = Room(20)
    message = _message(None, [room], bytes(64), keep)
    # the padding behind the last descriptor is nobody's: the kernel leaves it as it was
    seen += [kernel("recvmsg", b.fileno(), message, 0), room.bytes, _numbers(message)]
    seen += [keep[0].bytes[:20], keep[0].bytes[24:]]
    received = struct.unpack_from("<i", keep[0].bytes, 16)[0]
    seen.append(os.read(received, 100))
    os.close(received)
    seen += [kernel("sendmsg", a.fileno(), _message(None, [Room(b"again")], rights), 0)]
    message = _message(None, [room], bytes(8), keep)  # no room for it: MSG_CTRUNC
    seen += [kernel("recvmsg", b.fileno(), message, 0), keep[1].bytes, _numbers(message)]
    message = _message(None, [room], b"")
    seen += [kernel("sendmsg", a.fileno(), _message(None, [Room(b"third")], rights), 0)]
    seen += [kernel("recvmsg", b.fileno(), message, 0), room.bytes, _numbers(message)]
    os.close(fd)
    a.close()
    b.close()
    return seen


@scenario
def sockets_many_messages(kernel: Kernel, _folder: Path) -> Seen:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    send = [_message(None, [Room(f"message {i}".encode()), Room(b"!" * i)], b"") for i in range(4)]
    headers = Room(b"".join(message.bytes + bytes(8) for message in send))
    seen: Seen = [kernel("sendmmsg", a.fileno(), headers, 4, 0)]
    seen += [struct.unpack_from("<I", headers.bytes, 64 * i + 56) for i in range(4)]
    rooms = [[Room(3), Room(20)] for _ in range(6)]
    receive = [_message(Room(20), pair, bytes(24)) for pair in rooms]
    headers = Room(b"".join(message.bytes + b"\x33" * 8 for message in receive))
    before = [headers.bytes[64 * i : 64 * i + 8] for i in range(6)]
    wait = words(0, 0)
    seen += [kernel("recvmmsg", b.fileno(), headers, 6, socket.MSG_DONTWAIT, wait), wait.bytes]
    seen += [_numbers(Room(headers.bytes[64 * i : 64 * i + 56])) for i in range(6)]
    seen += [headers.bytes[64 * i + 56 : 64 * i + 64] for i in range(6)]
    seen += [room.bytes for pair in rooms for room in pair]
    after = [headers.bytes[64 * i : 64 * i + 8] for i in range(6)]
    assert before == after, "the pointers are the process's own"
    seen += [kernel("recvmmsg", b.fileno(), headers, 6, socket.MSG_DONTWAIT, None)]
    seen += [headers.bytes[64 * i + 56 : 64 * i + 64] for i in range(6)]
    seen += [room.bytes for pair in rooms for room in pair]
    seen += [kernel("recvmmsg", b.fileno(), None, 0, 0, None), kernel("sendmmsg", 999, headers, 2, 0)]
    a.close()
    b.close()
    return seen


@scenario
def sockets_options(kernel: Kernel, _folder: Path) -> Seen:
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    fd = stream.fileno()
    room, size = Room(32), ints(32)
    refuse = Room(struct.pack("<HBBI", 6, 0, 0, 0))  # struct sock_filter: return 0
    program = Room(struct.pack("<HxxxxxxQ", 1, refuse.address), refuse)
    seen: Seen = []
    for call in (
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, ints(1), 4),
        ("getsockopt", fd, 1, socket.SO_REUSEADDR, room, size),
        ("setsockopt", fd, 1, socket.SO_LINGER, ints(1, 5), 8),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(8)),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(3)),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(-4)),
        ("getsockopt", fd, 1, socket.SO_LINGER, room, ints(0)),
        ("getsockopt", fd, 1, socket.SO_LINGER, None, ints(8)),
        ("getsockopt", fd, 1, socket.SO_TYPE, room, ints(1 << 30)),
        ("setsockopt", fd, 6, socket.TCP_NODELAY, ints(1), 4),
        ("getsockopt", fd, 6, socket.TCP_NODELAY, room, ints(4)),
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, None, 4),
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, ints(1), -1),
        ("setsockopt", fd, 1, socket.SO_REUSEADDR, ints(1), 0),
        ("setsockopt", fd, 1, 9999, ints(1), 4),
        ("getsockopt", a.fileno(), 1, socket.SO_PEERCRED, room, ints(12)),
        ("getsockopt", a.fileno(), 1, 59, Room(4), ints(0)),  # SO_PEERGROUPS: says how much room it wants
        ("setsockopt", datagram.fileno(), 1, 26, program, 16),  # SO_ATTACH_FILTER
        ("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, room),
    ):
        seen.append(kernel(call[0], *call[1:]))
        seen += [arg.bytes for arg in call if isinstance(arg, Room) and arg is not program]
    for n in struct.unpack_from("<ii", room.bytes):
        os.close(n)
    for each in (stream, datagram, a, b):
        each.close()
    return seen


@scenario
def queues(kernel: Kernel, _folder: Path) -> Seen:
    sets = kernel("semget", 0, 2, 0o600)
    operations = Room(struct.pack("<HhhHhh", 0, 3, 0, 1, 1, 0))
    status = Room(112)
    seen: Seen = [
        kernel("semop", sets, operations, 2),
        kernel("semop", sets, operations, 0),
        kernel("semop", sets, None, 1),
        kernel("semtimedop", sets, Room(struct.pack("<Hhh", 0, -9, 0)), 1, words(0, 1000)),
        kernel("semctl", sets, 0, 12 | 0x100, 0),
        kernel("semctl", sets, 0, 16, 7),
        kernel("semctl", sets, 0, 12, 0),
        kernel("semctl", sets, 0, 2 | 0x100, status),
        status.bytes[80:],
        kernel("semctl", sets, 0, 0, 0),
    ]
    queue = kernel("msgget", 0, 0o600)
    room = Room(40)
    seen += [
        kernel("msgsnd", queue, Room(struct.pack("<q", 5) + b"a message"), 9, 0),
        kernel("msgsnd", queue, Room(struct.pack("<q", 0) + b"a message"), 9, 0),
        kernel("msgsnd", queue, Room(struct.pack("<q", 5)), -1, 0),
        kernel("msgctl", queue, 2, Room(128)),
        kernel("msgrcv", queue, room, 3, 0, 0),
        kernel("msgrcv", queue, room, 30, 0, 0x800),
        room.bytes,
        kernel("msgrcv", queue, room, 30, 0, 0x800),
        kernel("msgctl", queue, 0, 0),
    ]
    attributes = words(0, 3, 20, 0, 0, 0, 0, 0)
    mq = kernel("mq_open", b"calls-test", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600, attributes)
    seen.append(kernel("mq_unlink", b"calls-test"))
    if mq >= 0:
        priority, room, old = Room(4), Room(40), Room(64)
        seen += [
            kernel("mq_timedsend", mq, Room(b"posix"), 5, 7, None),
            kernel("mq_timedsend", mq, Room(40), 40, 7, None),
            kernel("mq_getsetattr", mq, None, old),
            old.bytes,
            kernel("mq_timedreceive", mq, room, 40, priority, words(0, 0)),
            room.bytes,
            priority.bytes,
            kernel("mq_timedreceive", mq, room, 40, None, None),
        ]
        os.close(mq)
    return seen


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_forwarded_is_as_direct(act: Scenario) -> None:
    compare(act)
