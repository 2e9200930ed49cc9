"""What the protocol runs over, a plain socket or one that is `Secured`; frames in and out of it."""

from __future__ import annotations

import contextlib
import socket
from typing import Protocol

from omtools.omfs.operations import MAX_TRANSFER, Buffer
from omtools.omfs.wire import HEADER, MAX_BODY, Kind, unpack_header

_JOIN = 1 << 15  # up to here copying is cheaper than sending twice
_AHEAD = 16_000  # of more, so much goes ahead: with a header before it, it fits in one record of TLS


class Stream(Protocol):
    """A connected stream of bytes that blocks: what socket.socket and `Secured` have in common."""

    def sendall(self, data: Buffer, /) -> None:
        """Send all of it."""

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0, /) -> int:
        """Receive some bytes; 0: the end."""

    def settimeout(self, value: float | None, /) -> None:
        """How long both may take, in seconds."""

    def fileno(self) -> int:
        """For poll."""

    def shutdown(self, how: int, /) -> None:
        """End it, for another thread that waits in it too."""

    def close(self) -> None:
        """Close the descriptor."""


class Frames:
    """Frames of oMFS over a stream, for one thread at a time; it receives into buffers that it uses again."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._header = memoryview(bytearray(HEADER.size))
        self._body = memoryview(bytearray(1 << 12))
        self._pending = getattr(stream, "pending", None)

    @property
    def waiting(self) -> bool:
        """Decrypted bytes stand ready that poll knows nothing of."""
        return self._pending is not None and self._pending() > 0

    def send(
        self, kind: int, serial: int, body: Buffer = b"", data: Buffer = b"", before: Buffer = b""
    ) -> None:
        """Send one frame, whose body is `body` and then `data`; `before` are whole frames that go first."""
        head = HEADER.pack(len(body) + len(data), kind, serial)
        if len(data) <= _JOIN:
            self.stream.sendall(b"".join((before, head, body, data)))
        else:
            view = memoryview(data)
            self.stream.sendall(b"".join((before, head, body, view[:_AHEAD])))
            self.stream.sendall(view[_AHEAD:])

    def receive_header(self) -> tuple[Kind, int, int]:
        """Kind, serial and length of the next frame.

        Raises:
            TimeoutError: nothing has come at all, and it may be tried again.
            EOFError: the other side has closed it.
            BadFrame: this is none.
            OSError: it broke.
        """
        first = self.stream.recv_into(self._header, HEADER.size)
        if not first:
            raise EOFError
        if first < HEADER.size:
            self.receive_into(self._header[first:])
        return unpack_header(self._header)

    def receive_into(self, buffer: memoryview) -> None:
        """Fill the buffer; a pause in the middle of a frame is a broken connection."""
        done, length = 0, len(buffer)
        while done < length:
            done += self.receive_some(buffer[done:])

    def receive_some(self, buffer: memoryview) -> int:
        """Put into the buffer what comes next; returns how many bytes, which may be fewer than it takes."""
        try:
            count = self.stream.recv_into(buffer, len(buffer))
        except TimeoutError as error:
            raise EOFError from error
        if not count:
            raise EOFError
        return count

    def receive_body(self, length: int) -> memoryview:
        """The body, valid until the next one."""
        if length > len(self._body):
            self._body = memoryview(bytearray(MAX_BODY if length > MAX_TRANSFER else length))
        body = self._body[:length]
        self.receive_into(body)
        return body

    def receive(self) -> tuple[Kind, int, memoryview]:
        """The next frame: kind, serial, body; raises as `receive_header`."""
        kind, serial, length = self.receive_header()
        return kind, serial, self.receive_body(length)

    def close(self) -> None:
        """Close it at once."""
        self.shut()
        with contextlib.suppress(OSError):
            self.stream.close()

    def shut(self) -> None:
        """End it for whoever waits in it; `close` is still to be called."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)
