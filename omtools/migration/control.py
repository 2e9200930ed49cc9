"""A keeper's control socket: whoever connects is told its state, and may send commands."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path

import msgspec

from omtools.migration.orders import Command, State

_LIMIT = 1 << 16  # a longer line is no command
_LAST_WORD_MS = 2000
_decoder = msgspec.json.Decoder(Command)


class Control:
    """The socket, its connections, and the last state told."""

    def __init__(self, path: str) -> None:
        self._path = path
        Path(path).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        old = os.umask(0o077)
        try:
            self._listener.bind(path)
        finally:
            os.umask(old)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._open: dict[int, tuple[socket.socket, bytearray]] = {}
        self._last = b""

    def descriptors(self) -> list[int]:
        """For poll."""
        return [self._listener.fileno(), *self._open]

    def tell(self, state: State) -> None:
        """Send the state to everybody who listens, also to those who have just come.

        A keeper that sends pages looks at nothing else meanwhile.
        """
        self.handle(self._listener.fileno())
        self._last = msgspec.json.encode(state) + b"\n"
        for descriptor in list(self._open):
            self._send(descriptor, self._last)

    def _send(self, descriptor: int, line: bytes) -> None:
        connection, _pending = self._open[descriptor]
        try:
            connection.sendall(line)
        except OSError:  # whoever does not read is not worth waiting for
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        connection, _pending = self._open.pop(descriptor)
        connection.close()

    def handle(self, descriptor: int) -> list[Command]:
        """Deal with a readable descriptor; returns the commands that came."""
        if descriptor == self._listener.fileno():
            with contextlib.suppress(OSError):
                connection, _address = self._listener.accept()
                connection.setblocking(False)
                self._open[connection.fileno()] = (connection, bytearray())
                self._send(connection.fileno(), self._last)
            return []
        if descriptor not in self._open:
            return []  # dropped since poll saw it
        connection, pending = self._open[descriptor]
        try:
            data = connection.recv(4096)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        pending += data
        if not data or len(pending) > _LIMIT:
            self._drop(descriptor)
            return []
        *lines, rest = bytes(pending).split(b"\n")
        pending[:] = rest
        commands = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                commands.append(_decoder.decode(line))
        return commands

    def close(self) -> None:
        """Tell the last state to whoever is about to ask, then close everything and remove the socket.

        If nobody listens it waits a little for the one who gave the order and has not connected yet.
        """
        poller = select.poll()
        poller.register(self._listener.fileno(), select.POLLIN)
        while poller.poll(0 if self._open else _LAST_WORD_MS):
            self.handle(self._listener.fileno())
        with contextlib.suppress(OSError):  # a keeper that became another user may not: then its agent does
            Path(self._path).unlink(missing_ok=True)
        for descriptor in list(self._open):
            self._drop(descriptor)
        self._listener.close()
