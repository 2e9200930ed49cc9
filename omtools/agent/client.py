"""Asking the agent of this node, from a program that wants to start fast.

A blocking socket and msgspec, no asyncio and no SSH: one question costs a few milliseconds. `talk` drives the
methods of `omtools.agent.cluster.Cluster`, the public API, over such a socket.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from omtools.agent import api
from omtools.agent.cluster import Cluster, OnEvent
from omtools.agent.parts import Joining
from omtools.agent.paths import agent_socket
from omtools.errors import AgentVersion, BadRequest, NoAgent, OmError
from omtools.i18n import _

_R = TypeVar("_R")
_PATIENCE = 10.0  # for the agent's hello: it answers at once or not at all
_PIECE = 1 << 16
_decoder = msgspec.json.Decoder(api.FromAgent)
_OWN = api.Subscribe()


class Client:
    """A conversation with the local agent, one question at a time. Use it with ``with``.

    Attributes:
        hello: how the agent introduced itself.
        uid: for whom it asks, if not for itself; only root is believed.
    """

    uid: int | None = None

    def __init__(self, path: Path | None = None, name: str = "", patience: float | None = None) -> None:
        """Connect.

        Args:
            path: the agent's socket; None: the one that belongs to this user.
            name: of the program.
            patience: seconds for each answer; None: as long as it takes.

        Raises:
            NoAgent: nothing answers there.
            AgentVersion: it speaks another version.
        """
        self._path = path or agent_socket()
        self._buffer = bytearray()
        self._joining = Joining()
        self._next = 1
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(_PATIENCE if patience is None else patience)
            self._socket.connect(str(self._path))
            self._send(api.Hello(api.VERSION, name=name))
            self.hello = self._greeting()
            self._socket.settimeout(patience)
        except OSError:
            self._socket.close()
            raise NoAgent(socket=str(self._path)) from None
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Client:
        """The connection is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, request: api.Request, result: type[_R], on_event: OnEvent | None = None) -> _R:
        """Ask something.

        Args:
            request: what.
            result: the type of the answer.
            on_event: called with every notice that belongs to this call.

        Raises:
            OmError: whatever the agent raised; NoAgent if it ended meanwhile.
        """
        number, self._next = self._next, self._next + 1
        self._send(api.Call(number, request, self.uid))
        while True:
            message = self._receive()
            if isinstance(message, api.Failure) and message.id in (number, 0):
                raise OmError.from_wire(message.error)
            if isinstance(message, api.Answer) and message.id == number:
                if not isinstance(message.result, result):
                    raise BadRequest(why=f"{type(message.result).__name__} instead of {result.__name__}")
                return message.result
            if isinstance(message, api.Notice) and message.id == number and on_event is not None:
                on_event(message.event)

    def events(self, wanted: api.Subscribe = _OWN) -> Iterator[api.Event]:
        """Subscribe, and wait for one event after the other."""
        early: list[api.Event] = []
        self.call(wanted, api.Done, early.append)
        yield from early
        while True:
            message = self._receive()
            if isinstance(message, api.Notice):
                yield message.event

    def _greeting(self) -> api.Hello:
        message = self._receive()
        if isinstance(message, api.Failure):
            raise OmError.from_wire(message.error)
        if not isinstance(message, api.Hello):
            raise BadRequest(why=type(message).__name__)
        if message.version != api.VERSION:
            raise AgentVersion(theirs=message.version, ours=api.VERSION)
        return message

    def _send(self, message: api.ToAgent) -> None:
        try:
            self._socket.sendall(api.line_of(message))
        except (BrokenPipeError, ConnectionResetError):
            # It hung up, and may have said why before.
            return

    def _receive(self) -> api.FromAgent:
        while (message := self._joining.take(self._line())) is None:
            pass
        return message

    def _line(self) -> api.FromAgent:
        looked = 0
        while (end := self._buffer.find(b"\n", looked)) < 0:
            looked = len(self._buffer)
            if looked > api.MAX_LINE:
                raise BadRequest(why=_("a line of more than {n} bytes").format(n=api.MAX_LINE))
            try:
                piece = self._socket.recv(_PIECE)
            except (ConnectionResetError, TimeoutError):
                piece = b""
            if not piece:
                raise NoAgent(socket=str(self._path))
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message: api.FromAgent = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise BadRequest(why=str(error)) from None
        return message


class _Blocking:
    """A `Client` as the transport of a `Cluster`: its calls are done when they return, nothing is awaited."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.hello: api.Hello | None = client.hello

    async def call(
        self,
        request: api.Request,
        result: type[_R],
        uid: int | None = None,  # noqa: ARG002 - only agents ask for others
        on_event: OnEvent | None = None,
    ) -> _R:
        return self._client.call(request, result, on_event)

    async def events(self, wanted: api.Subscribe = _OWN) -> AsyncIterator[api.Event]:
        for event in self._client.events(wanted):
            yield event


def talk(
    name: str, conversation: Callable[[Cluster], Coroutine[Any, Any, _R]], path: Path | None = None
) -> _R:
    """Have a conversation with the agent of this node by the public API, without asyncio.

    Args:
        name: of the program.
        conversation: what to ask and do; it may await nothing but the cluster's methods.
        path: the agent's socket; None: the one that belongs to this user.

    Raises:
        OmError: what the cluster's methods raise.
    """
    with Client(path, name) as client:
        coroutine = conversation(Cluster(_Blocking(client)))
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: _R = done.value
            return result
        finally:
            coroutine.close()
        raise RuntimeError("a conversation waited for something else than the agent")
