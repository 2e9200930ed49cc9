"""omtools.linux.fuse.session without a kernel: a socket is the device, and says what it likes."""

from __future__ import annotations

import errno
import socket
import threading

import pytest
from hypothesis import given, settings, strategies as st

from omtools.errors import CannotMount
from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Init, Opcode
from omtools.linux.fuse.handler import Cancellation, Handler, Request
from omtools.linux.fuse.mount import Mounted, keep_device
from omtools.linux.fuse.session import Session

ATTRIBUTES = abi.Attributes(1, 0, 0, 0, 0, 0, 0o040755, 2, 0, 0, 0, 4096)


class Small(Handler):
    """A root directory, and locks that are never free."""

    over = False

    def getattr(self, request: Request, fh: int | None) -> abi.Attributes:  # noqa: ARG002 - as the protocol has it
        return ATTRIBUTES

    def setlkw(self, request: Request, asked: abi.LockIn, cancellation: Cancellation) -> None:  # noqa: ARG002 - too
        cancellation.wait()
        raise InterruptedError(errno.EINTR, "interrupted")

    def ended(self) -> None:
        self.over = True


def packet(opcode: int, unique: int, body: bytes = b"", node: int = 1) -> bytes:
    return abi.HEADER_IN.pack(40 + len(body), opcode, unique, node, 0, 0, 1, 0, 0) + body


INIT = abi.INIT_IN.pack(7, 45, 65536, int(Init.INIT_EXT | Init.ASYNC_READ)) + bytes(48)


class Kernel:
    """The kernel's end of the device."""

    def __init__(self) -> None:
        self.end, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(30)
        self.handler = Small()
        self.session = Session(
            Mounted("/nonexistent/mount", keep_device(device.detach()), 0), self.handler
        )

    def start(self) -> None:
        self.end.send(packet(Opcode.INIT, 1, INIT))
        self.session.start()
        assert self.answer() == (1, 0)

    def answer(self) -> tuple[int, int]:
        reply = self.end.recv(1 << 21)
        length, error, unique = abi.HEADER_OUT.unpack_from(reply)
        assert length == len(reply)
        return unique, error

    def stop(self) -> None:
        self.end.close()
        assert self.session.wait(30)
        assert self.handler.over


def test_an_old_kernel_is_refused() -> None:
    kernel = Kernel()
    kernel.end.send(packet(Opcode.INIT, 1, abi.INIT_IN.pack(7, 19, 0, 0)))
    with pytest.raises(CannotMount, match=r"speaks FUSE 7\.19, 7\.31 is needed"):
        kernel.session.start()
    assert kernel.answer() == (1, -errno.EPROTO)
    kernel.end.close()


def test_a_newer_kernel_is_told_which_version_to_speak() -> None:
    kernel = Kernel()
    kernel.end.send(packet(Opcode.GETATTR, 7, bytes(16)))  # out of order: an error, not a hang
    kernel.end.send(packet(Opcode.INIT, 1, abi.INIT_IN.pack(8, 0, 0, 0)))
    kernel.end.send(packet(Opcode.INIT, 3, INIT))
    kernel.session.start()
    assert [kernel.answer() for _reply in range(3)] == [(7, -errno.EIO), (1, 0), (3, 0)]
    assert kernel.session.agreed == Init.INIT_EXT | Init.ASYNC_READ
    kernel.stop()


def test_a_kernel_that_goes_away_at_once() -> None:
    kernel = Kernel()
    kernel.end.close()
    with pytest.raises(CannotMount, match="does not begin to talk"):
        kernel.session.start()


def test_interrupts_reach_only_what_waits_even_if_they_come_first() -> None:
    kernel = Kernel()
    kernel.start()
    lock = abi.LK_IN.pack(1, 2, 0, 9, 1, 77, 0)
    kernel.end.send(packet(Opcode.INTERRUPT, 11, abi.INTERRUPT_IN.pack(20)))
    kernel.end.send(packet(Opcode.INTERRUPT, 13, abi.INTERRUPT_IN.pack(4711)))
    kernel.end.send(packet(Opcode.GETATTR, 14, abi.GETATTR_IN.pack(0, 0)))
    assert kernel.answer() == (14, 0)
    kernel.end.send(packet(Opcode.SETLKW, 20, lock))
    assert kernel.answer() == (20, -errno.EINTR)
    kernel.end.send(packet(Opcode.SETLKW, 22, lock))
    kernel.end.send(packet(Opcode.SETLKW, 24, lock))
    kernel.end.send(packet(Opcode.GETATTR, 26, abi.GETATTR_IN.pack(0, 0)))
    assert kernel.answer() == (26, 0)
    kernel.end.send(packet(Opcode.INTERRUPT, 27, abi.INTERRUPT_IN.pack(24)))
    assert kernel.answer() == (24, -errno.EINTR)
    threading.Thread(target=kernel.session.close).start()  # which lets the last one go
    assert kernel.answer() == (22, -errno.EINTR)
    kernel.stop()


REQUESTS = st.lists(
    st.tuples(st.one_of(st.integers(0, 60), st.integers(0, 2**32 - 1)), st.binary(max_size=200)), max_size=30
)
SILENT = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT}


@settings(max_examples=60)
@given(REQUESTS)
def test_every_request_has_one_reply_whatever_it_is(requests: list[tuple[int, bytes]]) -> None:
    kernel = Kernel()
    kernel.start()
    expected = []
    for number, (opcode, body) in enumerate(requests, 2):
        if opcode == Opcode.SETLKW and len(body) >= abi.LK_IN.size:
            continue
        kernel.end.send(packet(opcode, number * 2, body))
        if opcode not in SILENT:
            expected.append(number * 2)
    answered = sorted(kernel.answer()[0] for _reply in expected)
    assert answered == expected
    kernel.stop()
