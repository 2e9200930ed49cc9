"""The common part of file workers: their control socket, and when they end."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable

import msgspec

from omtools.omfs.orders import Done, End, Question, Reply

ORPHANED_SECONDS = 30.0  # with nothing to do, and nobody for whom to stay, a worker waits so long
_MAX_LINE = 1 << 16
_decoder = msgspec.json.Decoder(Question)
_encoder = msgspec.json.Encoder()


class Control:
    """Answers the agents that connect to a listening unix socket, in the calling thread.

    Args:
        listener: the socket.
        answer: called for each question but `End`.
        busy: whether the worker is still of use without an agent.
        stays: it is of use as long as there is an agent.
    """

    def __init__(
        self,
        listener: socket.socket,
        answer: Callable[[Question], Reply],
        busy: Callable[[], bool],
        *,
        stays: bool = True,
    ) -> None:
        self._stays = stays
        self._listener = listener
        self._answer = answer
        self._busy = busy
        self._selector = selectors.DefaultSelector()
        self._agents: dict[socket.socket, bytearray] = {}
        self._wake, self._woken = socket.socketpair()

    def stop(self) -> None:
        """Have `run` return, from any thread or signal handler."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def run(self) -> socket.socket | None:
        """Serve until told to end; returns the agent that waits to hear that it is done, if one does."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.stop())
        while True:
            ready = self._selector.select(None if self._agents and self._stays else ORPHANED_SECONDS)
            if not ready and not self._busy():
                return None
            for key, _events in ready:
                if key.fileobj is self._woken:
                    return None
                if key.fileobj is self._listener:
                    self._welcome()
                elif (ender := self._hear(key.fileobj)) is not None:
                    return ender

    def close(self) -> None:
        """Hang up on everybody."""
        for agent in (*self._agents, self._wake, self._woken, self._listener):
            agent.close()
        self._selector.close()

    def _welcome(self) -> None:
        with contextlib.suppress(BlockingIOError):
            agent, _address = self._listener.accept()
            agent.setblocking(True)
            self._agents[agent] = bytearray()
            self._selector.register(agent, selectors.EVENT_READ)

    def _hear(self, agent: object) -> socket.socket | None:
        assert isinstance(agent, socket.socket)
        buffer = self._agents[agent]
        try:
            piece = agent.recv(_MAX_LINE)
        except OSError:
            piece = b""
        buffer += piece
        if not piece or len(buffer) > _MAX_LINE:
            self._drop(agent)
            return None
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            try:
                question = _decoder.decode(line)
            except msgspec.MsgspecError:
                self._drop(agent)
                return None
            if isinstance(question, End):
                return agent
            self._tell(agent, self._answer(question))
        return None

    def _tell(self, agent: socket.socket, reply: Reply) -> None:
        try:
            agent.sendall(line_of(reply))
        except OSError:
            self._drop(agent)

    def _drop(self, agent: socket.socket) -> None:
        self._selector.unregister(agent)
        self._agents.pop(agent).clear()
        agent.close()


def line_of(message: Question | Reply) -> bytes:
    """The message as it goes over the socket."""
    return _encoder.encode(message) + b"\n"


def first_word(done: Done) -> None:
    """Tell who started the worker what came of it, if it still lives; the next agent finds the worker."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, line_of(done))


def farewell(agent: socket.socket | None, done: Done) -> None:
    """Tell who waits that the worker has ended."""
    if agent is not None:
        with contextlib.suppress(OSError):
            agent.sendall(line_of(done))


def leave_home() -> None:
    """Go on in a session of one's own: the worker outlives who started it."""
    os.setsid()
    # An agent goes first (it must relieve an overloaded node); what works for anybody's programs does not.
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))


def become(uid: int, gid: int, groups: list[int] | None) -> None:
    """Take a user's rights, for good."""
    if groups is not None:
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def inherited_listener(descriptor: int) -> socket.socket:
    """The control socket that the agent has made."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
