"""The client's connections to one server: made when needed, joined in one session, given up when dead.

A question that brings no answer for a while is no proof of a dead server: a disk may be slow. So the client
then asks over another connection whether anybody is there, and goes on waiting if there is. If there is not,
whoever comes is told so at once, until the server answers again: it is asked each second.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from omtools.migration.link import LinkBroken
from omtools.omfs.descriptors import Descriptor
from omtools.omfs.nodes import failure
from omtools.omfs.operations import Buffer, Interrupt
from omtools.omfs.stream import Frames, Stream
from omtools.omfs.telling import Telling
from omtools.omfs.wire import ERRNO, MAGIC, REQUESTS, UNANSWERED, VERSION, BadFrame, Hello, Kind

_SERIALS = 0xFFFF_FFFF  # from 1 on: 0 has another meaning
_KEPT = 32  # idle connections
_REST_SECONDS = 1.0  # after a vain try nobody tries again so soon
_BROKEN = (OSError, EOFError, BadFrame)
_NO_LINK = (OSError, EOFError, BadFrame, LinkBroken)
_AS_IT_IS = (errno.EACCES, errno.EPERM)  # the node is there, and will not


class Lost(Exception):
    """The connection is of no use any more; the errno says how that looks to a program."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Refused(Exception):
    """The server answers, and does not let this client in; the errno says why."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Connection:
    """One connection; used by one thread at a time.

    Args:
        frames: what it speaks by.
        epoch: which session of this client it belongs to, from 1.
        telling: what the server of that session is still to be told.
    """

    def __init__(self, frames: Frames, epoch: int, telling: Telling) -> None:
        self._frames = frames
        self.epoch = epoch
        self._telling = telling
        self._serial = 0
        self._poll = select.poll()
        self._poll.register(frames.stream.fileno(), select.POLLIN)

    @property
    def usable(self) -> bool:
        """Nobody has said anything unasked: the end of the connection, that is."""
        return not self._poll.poll(0)

    def tell(self, kind: Kind, body: bytes) -> None:
        """Send what has no answer; raises Lost."""
        try:
            self._frames.send(kind, UNANSWERED, body)
        except OSError as error:
            raise Lost(errno.EIO) from error

    def tell_more(self) -> None:
        """Send what else the server is to be told; raises Lost."""
        try:
            if told := self._telling.take(self.epoch):
                self._frames.stream.sendall(told)
        except OSError as error:
            raise Lost(errno.EIO) from error

    def ask(self, kind: Kind, body: bytes, data: Buffer, is_alive: Callable[[], bool]) -> memoryview:
        """Ask and wait for the answer's body, which is valid until the next question.

        Raises:
            Lost: no answer will come.
            OSError: the answer is an error.
        """
        length = self._ask(kind, body, data, is_alive)
        try:
            return self._frames.receive_body(length)
        except _BROKEN as error:
            raise Lost(errno.EIO) from error

    def ask_into(self, kind: Kind, body: bytes, buffer: memoryview, is_alive: Callable[[], bool]) -> int:
        """The same, with the answer's body into a buffer; returns its length."""
        length = self._ask(kind, body, b"", is_alive)
        if length > len(buffer):
            raise Lost(errno.EIO)
        try:
            self._frames.receive_into(buffer[:length])
        except _BROKEN as error:
            raise Lost(errno.EIO) from error
        return length

    def _ask(self, kind: Kind, body: bytes, data: Buffer, is_alive: Callable[[], bool]) -> int:
        self._serial = self._serial % _SERIALS + 1
        # A greeting comes first, whatever else there is to tell.
        told = b"" if kind == Kind.HELLO else self._telling.take(self.epoch)
        try:
            self._frames.send(kind, self._serial, body, data, told)
        except OSError as error:
            raise Lost(errno.ETIMEDOUT if isinstance(error, TimeoutError) else errno.EIO) from error
        while True:
            try:
                answer, serial, length = self._frames.receive_header()
            except TimeoutError as error:
                if is_alive():
                    continue
                raise Lost(errno.ETIMEDOUT) from error
            except _BROKEN as error:
                raise Lost(errno.EIO) from error
            return self._check(answer, serial, length)

    def _check(self, answer: Kind, serial: int, length: int) -> int:
        if answer == Kind.RESULT and serial == self._serial:
            return length
        if answer != Kind.ERROR or serial != self._serial:
            raise Lost(errno.EIO)
        try:
            number = ERRNO.unpack(self._frames.receive_body(length))
        except _BROKEN as error:
            raise Lost(errno.EIO) from error
        raise failure(number)

    def ask_waiting(self, kind: Kind, body: bytes, patience: float, interrupt: Interrupt | None) -> None:
        """Ask what may take for ever; the connection itself is asked now and then whether it lives."""
        self._serial = self._serial % _SERIALS + 1
        fired = Descriptor(os.eventfd(0, os.EFD_CLOEXEC))
        poll = select.poll()
        poll.register(self._frames.stream.fileno(), select.POLLIN)
        poll.register(fired.number, select.POLLIN)
        if interrupt is not None:
            interrupt.attach(lambda: os.eventfd_write(fired.number, 1))
        try:
            self._frames.send(kind, self._serial, body)
            self._await(poll, fired, patience)
        except TimeoutError as error:
            raise Lost(errno.ETIMEDOUT) from error
        except (EOFError, BadFrame) as error:
            raise Lost(errno.EIO) from error
        finally:
            if interrupt is not None:
                interrupt.attach(None)

    def _await(self, poll: select.poll, fired: Descriptor, patience: float) -> None:
        pinged = False
        while True:
            if not self._frames.waiting:
                ready = [number for number, _event in poll.poll(patience * 1000)]
                if not ready:
                    if pinged:
                        raise TimeoutError
                    self._frames.send(Kind.PING, self._serial)
                    pinged = True
                    continue
                if fired.number in ready:
                    os.eventfd_read(fired.number)
                    self._frames.send(Kind.CANCEL, self._serial)
                    continue
            answer, serial, length = self._frames.receive_header()
            if answer == Kind.PONG:
                pinged = False
                continue
            self._check(answer, serial, length)
            return

    def ping(self) -> None:
        """See whether anybody is there; raises Lost."""
        self._serial = self._serial % _SERIALS + 1
        try:
            self._frames.send(Kind.PING, self._serial)
            answer, serial, _length = self._frames.receive_header()
        except _BROKEN as error:
            raise Lost(errno.ETIMEDOUT) from error
        if answer != Kind.PONG or serial != self._serial:
            raise Lost(errno.EIO)

    def greet(self, token: bytes, begin: bool) -> None:
        """Begin a session or join it; raises Refused (ESTALE: there is none), Lost."""
        hello = Hello(MAGIC, VERSION, token, begin)
        try:
            self.ask(Kind.HELLO, REQUESTS[Kind.HELLO].pack(hello), b"", lambda: False)
        except OSError as error:
            raise Refused(error.errno or errno.EIO) from error

    def shut(self) -> None:
        """End it for the thread that uses it at the moment."""
        self._frames.shut()

    def close(self) -> None:
        """Close it."""
        self._frames.close()


class Connections:
    """All connections of one client to one server.

    Args:
        connect: makes a new connection; raises OSError or LinkBroken.
        patience: seconds without any sign of life after which the server is taken for dead.

    Attributes:
        telling: what the server will be told by and by.
    """

    def __init__(self, connect: Callable[[], Stream], patience: float) -> None:
        self._connect = connect
        self.patience = patience
        self.telling = Telling(self._tell)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._lock = threading.Lock()
        self._token = b""
        self._epoch = 0
        self._rest_until = 0.0
        self._silent = False
        self._closed = threading.Event()

    def holds(self, epoch: int) -> bool:
        """The present session is that one, and to all appearance the server still has it."""
        return epoch == self._epoch and bool(self._all)

    def take(self) -> Connection:
        """A connection for the calling thread.

        Raises:
            OSError: EHOSTDOWN if there is none to be had, or why the server does not want this client.
        """
        if self._silent:
            raise failure(errno.EHOSTDOWN)
        return self._take()

    def _take(self) -> Connection:
        return self._idle_one() or self._new()

    def _idle_one(self) -> Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if connection.usable:
                return connection
            self.drop(connection)
        return None

    def give(self, connection: Connection) -> None:
        """It is free again."""
        if self._closed.is_set() or connection.epoch != self._epoch or len(self._idle) >= _KEPT:
            self.drop(connection)
        else:
            self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """It is of no use any more."""
        with self._lock:
            self._all.discard(connection)
        connection.close()

    def is_alive(self) -> bool:
        """The server answers, over another connection than the one that waits."""
        if self._answers():
            return True
        with self._lock:
            if self._silent or self._closed.is_set():
                return False
            self._silent = True
        try:
            threading.Thread(target=self._await, name="omfs-silent", daemon=True).start()
        except RuntimeError:  # no thread to be had: then everybody finds out for himself
            self._silent = False
        return False

    def _await(self) -> None:
        """Ask the silent server until it answers."""
        while not self._closed.wait(_REST_SECONDS) and not self._answers():
            pass
        self._silent = False

    def _answers(self) -> bool:
        try:
            connection = self._take()
        except OSError:
            return False
        try:
            connection.ping()
        except Lost:
            self.drop(connection)
            return False
        self.give(connection)
        return True

    def _tell(self) -> None:
        with suppress(OSError):
            connection = self._idle_one()
            if connection is None:
                if not self._all:
                    return  # nobody hears it: who comes back with a question will say it
                connection = self._new()  # all wait for something, perhaps for what is to be told
            try:
                connection.tell_more()
            except Lost:
                self.drop(connection)
            else:
                self.give(connection)

    def close(self) -> None:
        """End all; who waits gets EIO."""
        self.telling.close()
        with self._lock:
            self._closed.set()
            idle, self._idle = self._idle, []
            busy = self._all - set(idle)
            self._all -= set(idle)
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.shut()

    def _new(self) -> Connection:
        with self._lock:
            if self._closed.is_set():
                raise failure(errno.EIO)
            began = time.monotonic()
            if began < self._rest_until:
                raise failure(errno.EHOSTDOWN)
            try:
                connection = self._greeted()
            except Refused as error:
                raise failure(error.number) from error
            except _NO_LINK as error:
                if time.monotonic() - began > _REST_SECONDS / 2:
                    self._rest_until = time.monotonic() + _REST_SECONDS
                if isinstance(error, OSError) and error.errno in _AS_IT_IS:
                    raise
                raise failure(errno.EHOSTDOWN) from error
            self._all.add(connection)
            return connection

    def _greeted(self) -> Connection:
        if self._epoch:
            try:
                return self._begin(self._token, self._epoch, begin=False)
            except Refused as error:
                if error.number != errno.ESTALE:
                    raise
        # The server knows us no more: what we had there is gone, and a new session begins.
        token = secrets.token_bytes(16)
        connection = self._begin(token, self._epoch + 1, begin=True)
        self._token, self._epoch = token, self._epoch + 1
        return connection

    def _begin(self, token: bytes, epoch: int, begin: bool) -> Connection:
        stream = self._connect()
        connection = Connection(Frames(stream), epoch, self.telling)
        try:
            stream.settimeout(self.patience)
            connection.greet(token, begin)
        except BaseException as error:
            with suppress(OSError):
                connection.close()
            if isinstance(error, Lost):
                raise failure(error.number) from error
            raise
        return connection
