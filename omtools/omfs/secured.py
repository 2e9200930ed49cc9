"""Connections of oMFS: TLS 1.3 to who has one certificate, with few system calls.

An `ssl.SSLSocket` with a time limit makes six system calls for a question and its answer, of which the kernel
would need two, and one for each 16 KiB of data. Here TLS works in memory, and the socket gets and gives as
much as there is: a round trip costs a third to two thirds of that, measured on one machine.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast

from omtools.linux.eager import Eager
from omtools.linux.interfaces import listen
from omtools.migration.link import LinkBroken, context_of, dial, tune
from omtools.migration.orders import Credentials, Endpoint
from omtools.omfs.operations import Buffer

_SECONDS = 5.0  # for shaking hands
_DIAL_SECONDS = 2.0  # somebody waits for a file: a node that is farther away is down
_PIECE = 1 << 18  # is encrypted at once: the other side works on it while the next is encrypted
_FIRST = 1 << 16  # and so much at first, for it waits
_RECORD = 1 << 14  # no record of TLS is longer: RFC 8446, 5.1
_TIMEVAL = struct.Struct("ll")  # struct timeval of bits/types/struct_timeval.h

Wait = Callable[[int, float | None], bool]
"""Waits until a descriptor can be read, at most so many seconds; False if the time is over."""


class Secured:
    """A `Stream` over TLS; one thread at a time, but for `shutdown`.

    Args:
        raw: connected; closed with this, and at once if the handshake fails.
        context: what TLS goes by.
        server: this side has accepted the connection.
        wait: called before each wait for the other side.

    Raises:
        OSError: the other side is not who it should be, or went away.
    """

    def __init__(
        self, raw: socket.socket, context: ssl.SSLContext, *, server: bool, wait: Wait | None = None
    ) -> None:
        self._raw = raw
        self._number = raw.fileno()
        self._wait: Wait | None = None
        self._seconds: float | None = None
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._buffer = memoryview(bytearray(_PIECE))
        self._plain = memoryview(bytearray(_RECORD))  # of it, what lies between the next two is to be had
        self._begin = self._end = 0
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=server)
        try:
            tune(raw)
            self.settimeout(_SECONDS)
            self._shake_hands()
        except BaseException:
            raw.close()
            raise
        self._wait = wait

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send()
                if not self._receive():
                    raise ConnectionResetError from None
            except ssl.SSLError:
                self._send()  # why
                raise
        self._send()

    def sendall(self, data: Buffer, /) -> None:
        """Send all of it; TimeoutError, OSError."""
        if len(data) <= _PIECE:
            self._tls.write(data)
            self._send()
            return
        view = memoryview(data)
        at, size = 0, _FIRST
        while at < len(view):
            self._tls.write(view[at : at + size])
            self._send()
            at, size = at + size, min(2 * size, _PIECE)

    def _send(self) -> None:
        if self._leaving.pending:
            try:
                self._raw.sendall(self._leaving.read())
            except BlockingIOError as error:
                raise TimeoutError from error

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0, /) -> int:  # noqa: ARG002 - a socket's
        """Receive some bytes; 0: the end. TimeoutError, OSError."""
        wanted = nbytes or len(buffer)
        # A record is always decrypted as a whole, so that TLS itself never holds any of it back.
        while self._begin == self._end:
            if not self._arrived.pending and not self._receive():
                return 0
            try:
                if wanted >= _RECORD:
                    return self._read_records(buffer, wanted)
                self._begin, self._end = 0, cast(int, self._tls.read(_RECORD, self._plain))
            except ssl.SSLWantReadError:
                if not self._receive():
                    return 0
            except ssl.SSLZeroReturnError:
                return 0
        count = min(wanted, self._end - self._begin)
        buffer[:count] = self._plain[self._begin : self._begin + count]
        self._begin += count
        return count

    def _read_records(self, buffer: memoryview, wanted: int) -> int:
        """Decrypt as many records as have come and surely have room."""
        read = self._tls.read
        done = cast(int, read(wanted, buffer))
        while wanted - done >= _RECORD and self._arrived.pending:
            try:
                done += cast(int, read(wanted - done, buffer[done:]))
            except ssl.SSLError:  # the rest has not come; what else there is, the next one is told
                break
        return done

    def _receive(self) -> int:
        """Get what has come, or comes next; 0: the end."""
        if self._wait is not None and not self._wait(self._number, self._seconds):
            raise TimeoutError
        try:
            count = self._raw.recv_into(self._buffer)
        except BlockingIOError as error:
            raise TimeoutError from error
        self._arrived.write(self._buffer[:count])
        return count

    def pending(self) -> int:
        """Bytes that stand ready, of which poll knows nothing."""
        return self._end - self._begin + self._arrived.pending

    def settimeout(self, value: float | None, /) -> None:
        """How long sending and receiving may take, in seconds; None: for ever."""
        # The kernel's own limits: with Python's, each call would be preceded by a poll.
        self._seconds = value
        whole = int(value or 0)
        limit = _TIMEVAL.pack(whole, max(1, int((value - whole) * 1e6)) if value else 0)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def fileno(self) -> int:
        """For poll; see `pending` too."""
        return self._raw.fileno()

    def shutdown(self, how: int, /) -> None:
        """End it, for another thread that waits in it too."""
        self._raw.shutdown(how)

    def close(self) -> None:
        """Close the descriptor."""
        self._raw.close()


def connect(endpoint: Endpoint, credentials: Credentials, wait: Wait | None = None) -> Secured:
    """Reach the server that listens there; raises LinkBroken (from TimeoutError if nobody answers)."""
    try:
        raw = dial(endpoint, _DIAL_SECONDS)
        return Secured(raw, context_of(credentials, server=False), server=False, wait=wait)
    except OSError as error:
        raise LinkBroken(str(error)) from error


class Awake:
    """Waits for one connection's questions, which may come one after the other."""

    def __init__(self, number: int) -> None:
        self._poll = select.poll()
        self._poll.register(number, select.POLLIN)
        self._eager = Eager()

    def __call__(self, number: int, seconds: float | None) -> bool:  # noqa: ARG002 - it is always the same
        """See `Wait`."""
        return bool(self._eager.poll(self._poll, seconds))


class Listening:
    """A socket where others connect who have one certificate; any number of them.

    Attributes:
        port: where.
    """

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._context = context_of(credentials, server=True)
        self._socket = listen(address)
        self.port = int(self._socket.getsockname()[1])

    def __enter__(self) -> Listening:
        """It listens already."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Listen no more."""
        self._socket.close()

    def accept(self, seconds: float) -> socket.socket:
        """Whoever connects next, to be given to `secure`; raises OSError, TimeoutError."""
        self._socket.settimeout(seconds)
        return self._socket.accept()[0]

    def secure(self, raw: socket.socket) -> Secured:
        """Shake hands; raises OSError, and closes it, for who has not that certificate."""
        return Secured(raw, self._context, server=True, wait=Awake(raw.fileno()))
