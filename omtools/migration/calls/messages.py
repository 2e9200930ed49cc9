"""The shapes of sendmsg, recvmsg, sendmmsg, recvmmsg, socket options and SysV messages.

struct msghdr (include/linux/socket.h, struct user_msghdr), 56 bytes:
  0 name, 8 namelen (int), 16 iov, 24 iovlen, 32 control, 40 controllen (size_t), 48 flags (int).
struct mmsghdr: the same and at 56 an unsigned int, 64 bytes in all.
Descriptors in control messages (SCM_RIGHTS) are plain numbers here: they live at home.
"""

from __future__ import annotations

from errno import EINVAL, EMSGSIZE, ENOBUFS
from struct import Struct
from typing import NamedTuple

from omtools.i18n import N_, _
from omtools.migration.calls.build import Build, Decided, Landing, Step, signed32
from omtools.migration.calls.model import Answer, ComeHome, Fault, OutRule
from omtools.migration.calls.shapes import IOV_MAX, iovec_of, pack_words, segments, vector_words

HEADER = Struct("<QiiQQQQi4xI4x")  # struct mmsghdr; a plain msghdr is its first 56 bytes
MSGHDR = 56
MMSGHDR = 64
SOCKADDR_STORAGE = 128  # include/uapi/linux/socket.h, _K_SS_MAXSIZE
# net/core/sock.c, sysctl_optmem_max is 128 KiB: what is larger cannot be sent anyway.
CONTROL_MAX = 1 << 20
MSG_DONTWAIT = 0x40         # include/linux/socket.h
MSG_ZEROCOPY = 0x4000000    # include/linux/socket.h
# recvmmsg may return fewer messages than there is room for. All room of those received travels, so it
# is asked for as many as fit into this many bytes, at least one.
RECVMMSG_ROOM = 1 << 16

_ZEROCOPY = N_("it sends with MSG_ZEROCOPY, and the kernel would go on reading memory that is not there")


class NoZeroCopy(NamedTuple):
    """With MSG_ZEROCOPY the kernel reads the pages after the call has returned."""

    flags: int

    def step(self) -> Step:
        """See Shape."""
        index = self.flags

        def check(b: Build) -> None:
            if b.raw[index] & MSG_ZEROCOPY:
                raise Decided(ComeHome(_(_ZEROCOPY)))

        return check


class Sockaddr(NamedTuple):
    """An address that goes in, its length an int argument (net/socket.c, move_addr_to_kernel)."""

    arg: int
    length: int

    def step(self) -> Step:
        """See Shape."""
        arg, length_arg = self

        def copy(b: Build) -> None:
            address, length = b.raw[arg], signed32(b.raw[length_arg])
            if not address:
                return
            if 0 < length <= SOCKADDR_STORAGE:
                b.args[arg] = b.base + b.put(b.memory.read(address, length))
            else:
                b.args[arg] = b.base  # nothing to copy, or EINVAL before it is copied

        return copy


class Message(NamedTuple):
    """One struct msghdr."""

    arg: int
    receive: bool

    def step(self) -> Step:
        """See Shape."""
        arg, receive = self

        def message(b: Build) -> None:
            address = b.raw[arg]
            if address:
                header = b.memory.read(address, MSGHDR)
                if receive:
                    _receive_one(b, arg, address, header)
                else:
                    b.args[arg] = b.base + b.put(_send(b, header + bytes(8))[:MSGHDR])

        return message


class Messages(NamedTuple):
    """An array of struct mmsghdr: argument 1, its length in argument 2."""

    receive: bool

    def step(self) -> Step:
        """See Shape."""
        receive = self.receive

        def messages(b: Build) -> None:
            address, count = b.raw[1], b.raw[2] & 0xFFFFFFFF
            if not address or not count:
                return
            # net/socket.c, __sys_sendmmsg cuts to UIO_MAXIOV; for recvmmsg fewer are as good.
            count = min(count, IOV_MAX)
            if receive:
                _receive_many(b, address, count)
                return
            headers = b.memory.read(address, MMSGHDR * count)
            sent: list[bytes] = []
            try:
                for i in range(0, len(headers), MMSGHDR):
                    sent.append(_send(b, headers[i : i + MMSGHDR]))
            except (Fault, Decided):
                if not sent:
                    raise
            count = len(sent)  # those before the bad one are sent, as the kernel does
            offset = b.put(b"".join(sent))
            b.args[1], b.args[2] = b.base + offset, count
            # of each, the kernel writes msg_len alone
            landing = tuple(
                pair
                for i in range(0, MMSGHDR * count, MMSGHDR)
                for pair in ((0, 56), (address + i + 56, 4), (0, 4))
            )
            b.out(offset, MMSGHDR * count, OutRule.RET64, landing)

        return messages


def _send(b: Build, header: bytes) -> bytes:
    """Everything a header to be sent points to, into the arena; returns the deputy's header."""
    name, namelen, pad, iov, iovlen, control, controllen, flags, length = HEADER.unpack(header)
    if name and namelen < 0:
        raise Decided(Answer(-EINVAL))
    if name and namelen:
        name = b.base + b.put(b.memory.read(name, min(namelen, SOCKADDR_STORAGE)))
    if iovlen > IOV_MAX:
        raise Decided(Answer(-EMSGSIZE))
    if iovlen:
        iov = b.base + segments(b, iov, iovlen, out=False)
    if controllen > CONTROL_MAX:
        raise Decided(Answer(-ENOBUFS))
    if controllen:
        control = b.base + b.put(b.memory.read(control, controllen))
    return HEADER.pack(name, namelen, pad, iov, iovlen, control, controllen, flags, length)


def _written(address: int) -> Landing:
    """What the kernel writes into a received msghdr: namelen, controllen, flags; never the pointers."""
    return ((0, 8), (address + 8, 4), (0, 28), (address + 40, 8), (address + 48, 4), (0, 4))


def _receive_rest(b: Build, header: bytes, says: int, at: int) -> bytes:
    """Room for name and control of one message; returns the deputy's header but for iov.

    `says` is the out with the header(s), `at` this header's offset in it.
    """
    name, namelen, pad, iov, iovlen, control, controllen, flags, length = HEADER.unpack(header)
    if name and namelen < 0:
        raise Decided(Answer(-EINVAL))
    if name and namelen:
        room = min(namelen, SOCKADDR_STORAGE)
        offset = b.reserve(room)
        b.sized.append((b.out(offset, room, OutRule.FULL, ((name, room),)), says, at + 8))
        name = b.base + offset
    elif name:
        name = b.base  # the kernel tells namelen, and only that
    if control and controllen:
        controllen = min(controllen, CONTROL_MAX)
        offset = b.reserve(controllen)
        b.sized.append((b.out(offset, controllen, OutRule.FULL, ((control, controllen),)), says, at + 40))
        control = b.base + offset
    else:
        control = 0
    return HEADER.pack(name, namelen, pad, iov, iovlen, control, controllen, flags, length)


def _receive_one(b: Build, arg: int, address: int, header: bytes) -> None:
    """Recvmsg: one header and its segments first (they are sent), then room."""
    iov, iovlen = HEADER.unpack(header + bytes(8))[3:5]
    if iovlen > IOV_MAX:
        raise Decided(Answer(-EMSGSIZE))
    at = b.put(bytes(MSGHDR))
    slot = len(b.parts) - 1
    says = b.out(at, MSGHDR, OutRule.FULL, _written(address))
    if iovlen:
        iov = b.base + segments(b, iov, iovlen, out=True)
    rest = bytearray(_receive_rest(b, header + bytes(8), says, 0)[:MSGHDR])
    rest[16:24] = iov.to_bytes(8, "little")
    b.parts[slot] = bytes(rest)
    b.args[arg] = b.base + at


def _vectors_of(b: Build, headers: bytes, count: int) -> list[list[tuple[int, int]]]:
    """The segments of as many messages as fit into RECVMMSG_ROOM."""
    pairs: list[list[tuple[int, int]]] = []
    room = 0
    for i in range(count):
        iov, iovlen = HEADER.unpack_from(headers, MMSGHDR * i)[3:5]
        if iovlen > IOV_MAX:
            if pairs:
                break  # the kernel would have received those before it first
            raise Decided(Answer(-EMSGSIZE))
        segs = iovec_of(b, iov, iovlen) if iovlen else []
        room += sum(length for _, length in segs)
        if room > RECVMMSG_ROOM and pairs:
            break
        pairs.append(segs)
    return pairs


def _receive_many(b: Build, address: int, count: int) -> None:
    """Recvmmsg: all headers and iovecs, then room for each message; only what msg_len says is written."""
    headers = b.memory.read(address, MMSGHDR * count)
    pairs = _vectors_of(b, headers, count)
    count = len(pairs)
    at = b.reserve(MMSGHDR * count)
    arrays = b.reserve(16 * sum(map(len, pairs)))
    vectors: list[int] = []
    landing: list[tuple[int, int]] = []
    for i in range(count):
        landing += (*_written(address + MMSGHDR * i), (address + MMSGHDR * i + 56, 4), (0, 4))
    says = b.out(at, MMSGHDR * count, OutRule.RET64, tuple(landing))
    deputy = []
    for i, segs in enumerate(pairs):
        header = bytearray(_receive_rest(b, headers[MMSGHDR * i : MMSGHDR * (i + 1)], says, MMSGHDR * i))
        header[16:24] = (b.base + arrays + 8 * len(vectors)).to_bytes(8, "little")
        deputy.append(bytes(header))
        total = sum(length for _, length in segs)
        data = b.reserve(total)
        if total:
            out = b.out(data, total, OutRule.FULL, tuple(s for s in segs if s[1]))
            b.sized.append((out, says, MMSGHDR * i + 56))
        vectors += vector_words(b.base + data, segs)
    end, b.end = b.end, at
    b.put(b"".join(deputy))
    b.end = arrays
    b.put(pack_words(vectors))
    b.end = max(end, b.end)
    b.args[1], b.args[2] = b.base + at, count


class Mailbox(NamedTuple):
    """The message of msgrcv: {long mtype; char mtext[]}; the result counts mtext alone (ipc/msg.c)."""

    def step(self) -> Step:
        """See Shape."""

        def receive(b: Build) -> None:
            address, size = b.raw[1], b.raw[2]
            if not address:
                return
            size = 0 if size >> 63 else min(size, CONTROL_MAX)
            offset = b.reserve(8 + size)
            b.out(offset, 8, OutRule.FULL, ((address, 8),))
            b.out(offset + 8, size, OutRule.RET, ((address + 8, size),))
            b.args[1] = b.base + offset

        return receive
