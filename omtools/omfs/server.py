"""The server's half: questions from a connection, answers from `Files`.

A client has several connections, one for each of its threads that asks at the moment; they share one session,
and with its last connection everything the client had ends: open files, locks, nodes.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from omtools.omfs.behind import STEP, Behind
from omtools.omfs.descriptors import Descriptor
from omtools.omfs.handlers import HANDLERS, undo
from omtools.omfs.nodes import failure
from omtools.omfs.operations import MAX_TRANSFER, Files, Interrupt
from omtools.omfs.stream import Frames, Stream
from omtools.omfs.wire import (
    ANSWERS,
    COUNT,
    ERRNO,
    HEADER,
    MAGIC,
    MAX_BODY,
    REQUESTS,
    UNANSWERED,
    VERSION,
    WRITE_HEAD,
    BadFrame,
    Hello,
    Kind,
    unpack_write_head,
)

_HELLO_SECONDS = 10.0
_SMALL = 1 << 16
_LARGE = 1 << 18  # less is written sooner than another thread is awake
_TOKEN = 16
_WAITING = (Kind.SETLK, Kind.FLOCK)  # their last argument says whether


class Session:
    """One client: its `Files` and how many connections it has."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.connections = 0


class Sessions:
    """The clients of one user's server.

    Args:
        make_files: makes the `Files` of a new client; they are closed with its last connection.
    """

    def __init__(self, make_files: Callable[[], Files]) -> None:
        self._make_files = make_files
        self._sessions: dict[bytes, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._sessions)

    def join(self, token: bytes, begin: bool) -> Session:
        """One more connection of a client; ESTALE if its session is over, or EEXIST if it has begun."""
        with self._lock:
            session = self._sessions.get(token)
            if begin:
                if session is not None:
                    raise failure(errno.EEXIST)
                session = self._sessions[token] = Session(self._make_files())
            elif session is None:
                raise failure(errno.ESTALE)
            session.connections += 1
        return session

    def leave(self, token: bytes) -> None:
        """One connection less."""
        with self._lock:
            session = self._sessions[token]
            session.connections -= 1
            if session.connections:
                return
            del self._sessions[token]
        session.files.close()


def serve(stream: Stream, sessions: Sessions) -> None:
    """Serve one connection until it ends, in the calling thread; closes the stream. Never raises.

    Args:
        stream: connected, and the other side known to be whom it should be.
        sessions: all clients of the user whom this process is; give each connection its own thread.
    """
    frames = Frames(stream)
    with suppress(EOFError, OSError, BadFrame):
        stream.settimeout(_HELLO_SECONDS)
        hello, serial = _hello(frames)
        try:
            session = sessions.join(hello.session, hello.begin)
        except Exception as error:
            _send_error(frames, serial, error)
            frames.close()
            return
        try:
            stream.settimeout(None)
            frames.send(Kind.RESULT, serial)
            _Connection(frames, session.files).run()
        except (EOFError, OSError, BadFrame):
            pass  # the client has gone, or speaks what it should not
        finally:
            frames.close()
            sessions.leave(hello.session)
    frames.close()


def _hello(frames: Frames) -> tuple[Hello, int]:
    kind, serial, body = frames.receive()
    if kind != Kind.HELLO:
        raise BadFrame("no hello")
    hello: Hello = REQUESTS[Kind.HELLO].unpack(body)
    if hello.magic != MAGIC or len(hello.session) != _TOKEN:
        raise BadFrame("not this protocol")
    if hello.version != VERSION:
        _send_error(frames, serial, failure(errno.EPROTO))
        raise BadFrame("another version")
    return hello, serial


def _send_error(frames: Frames, serial: int, error: BaseException) -> None:
    if isinstance(error, OSError) and error.errno:
        number = error.errno
    else:  # numbers that Python cannot hand to the kernel, or a fault of ours
        number = errno.EINVAL if isinstance(error, OverflowError) else errno.EIO
    frames.send(Kind.ERROR, serial, ERRNO.pack(number))


class _Connection:
    """One connection's conversation."""

    def __init__(self, frames: Frames, files: Files) -> None:
        self._frames = frames
        self._files = files
        self._answer = bytearray(HEADER.size + _SMALL)
        self._behind: Behind | None = None

    def run(self) -> None:
        """Answer until the client leaves; raises how it ended."""
        try:
            self._run()
        finally:
            if self._behind is not None:
                self._behind.close()

    def _run(self) -> None:
        frames, files = self._frames, self._files
        while True:
            kind, serial, length = frames.receive_header()
            if kind == Kind.WRITE and length > _LARGE:
                self._write(serial, length)
                continue
            body = frames.receive_body(length)
            if kind == Kind.READ:
                self._read(serial, body)
            elif kind == Kind.PING:
                frames.send(Kind.PONG, serial)
            elif kind == Kind.FORGET:
                with suppress(OSError):
                    files.forget(REQUESTS[kind].unpack(body))
            elif kind == Kind.RELEASE and serial == UNANSWERED:
                files.release(*REQUESTS[kind].unpack(body))
            elif kind in HANDLERS:
                self._handle(kind, serial, body)
            elif kind != Kind.CANCEL:  # what it was to break off is over
                raise BadFrame(f"a {kind.name} is no question")

    def _handle(self, kind: Kind, serial: int, question: memoryview) -> None:
        asked = REQUESTS[kind].unpack(question)
        try:
            answer = HANDLERS[kind](self._files, *asked)
            body = ANSWERS[kind].pack(answer)
        except Exception as error:  # whatever it is, the client must get an answer
            taken = isinstance(error, OSError) and error.errno == errno.EAGAIN
            if not (taken and kind in _WAITING and asked[-1]):
                _send_error(self._frames, serial, error)
                return
        else:
            self._deliver(kind, serial, answer, body)
            return
        self._wait(kind, serial, asked)

    def _deliver(self, kind: Kind, serial: int, answer: Any, body: bytes) -> None:
        try:
            self._frames.send(Kind.RESULT, serial, body)
        except OSError:
            undo(self._files, answer, kind)
            raise

    def _read(self, serial: int, body: memoryview) -> None:
        """The most frequent: the data are read to where they are sent from."""
        file, offset, size = REQUESTS[Kind.READ].unpack(body)
        size = min(size, MAX_TRANSFER)
        if HEADER.size + size > len(self._answer):
            self._answer = bytearray(HEADER.size + MAX_TRANSFER)
        try:
            with memoryview(self._answer) as answer:
                count = self._files.read_into(file, offset, answer[HEADER.size : HEADER.size + size])
        except Exception as error:
            _send_error(self._frames, serial, error)
            return
        HEADER.pack_into(self._answer, 0, count, Kind.RESULT, serial)
        self._frames.stream.sendall(memoryview(self._answer)[: HEADER.size + count])

    def _write(self, serial: int, length: int) -> None:
        """Much at once: the first of it is written while the rest arrives, unless it is to be appended."""
        file, offset, append = unpack_write_head(self._frames.receive_body(WRITE_HEAD))
        left = length - WRITE_HEAD
        behind = self._beside() if append is False else None
        if behind is None:
            try:
                body = COUNT.pack(self._files.write(file, offset, self._frames.receive_body(left), append))
            except Exception as error:
                _send_error(self._frames, serial, error)
            else:
                self._frames.send(Kind.RESULT, serial, body)
            return
        behind.begin(lambda before, data: self._files.write(file, offset + before, data, False))
        there = told = 0
        try:
            while there < left:
                there += self._frames.receive_some(behind.buffer[there : min(left, told + 2 * STEP)])
                if there - told >= STEP or there == left:
                    behind.put(there)
                    told = there
        finally:
            behind.finish()
        if behind.failed is not None and not behind.done:
            _send_error(self._frames, serial, behind.failed)
        else:
            self._frames.send(Kind.RESULT, serial, COUNT.pack(behind.done))

    def _beside(self) -> Behind | None:
        if self._behind is None:
            with suppress(RuntimeError):  # no thread is to be had
                self._behind = Behind(MAX_BODY)
        return self._behind

    def _wait(self, kind: Kind, serial: int, asked: tuple[Any, ...]) -> None:
        """Wait for a lock in a thread of its own, and listen to the client meanwhile."""
        interrupt = Interrupt()
        done = Descriptor(os.eventfd(0, os.EFD_CLOEXEC))
        failed: list[BaseException] = []

        def wait() -> None:
            ask: Callable[..., None] = self._files.setlk if kind == Kind.SETLK else self._files.flock
            try:
                ask(*asked, interrupt)
            except Exception as error:
                failed.append(error.with_traceback(None))  # that would keep all its frames' descriptors open
            finally:
                os.eventfd_write(done.number, 1)

        thread = threading.Thread(target=wait, name="omfs-lock", daemon=True)
        thread.start()
        try:
            self._listen(serial, done, interrupt)
        finally:
            interrupt.fire()
            thread.join()
        if failed:
            _send_error(self._frames, serial, failed[0])
        else:
            self._frames.send(Kind.RESULT, serial)

    def _listen(self, serial: int, done: Descriptor, interrupt: Interrupt) -> None:
        poll = select.poll()
        poll.register(self._frames.stream.fileno(), select.POLLIN)
        poll.register(done.number, select.POLLIN)
        while True:
            if not self._frames.waiting:
                ready = {number for number, _event in poll.poll()}
                if done.number in ready:
                    return
            kind, number, _body = self._frames.receive()
            if kind == Kind.PING:
                self._frames.send(Kind.PONG, number)
            elif kind == Kind.CANCEL:
                if number == serial:
                    interrupt.fire()
            elif kind != Kind.FORGET:
                raise BadFrame(f"a {kind.name} while a lock is awaited")
