"""The asking side of the command API for asyncio programs: calls in flight, answered in any order.

`Asking` knows no transport: SSH (`omtools.agent.peers`) and the unix socket (`UnixAsking`) feed it. Its
counterpart is `omtools.agent.conversation`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from omtools.agent import api, log
from omtools.agent.parts import Joining
from omtools.errors import AgentVersion, BadRequest, NoAgent, OmError
from omtools.i18n import _

_R = TypeVar("_R")
_PATIENCE = 10.0  # for the agent's hello: it answers at once or not at all
_decoder = msgspec.json.Decoder(api.FromAgent)
_OWN = api.Subscribe()


class Asking:
    """The calls of one conversation. The transport calls `feed` and `lost`.

    Attributes:
        hello: how the agent introduced itself.
    """

    def __init__(self, whom: str, lost: Callable[[str], OmError]) -> None:
        """`whom` is the agent's name for the log; `lost` words the error for a connection that is no more."""
        self.whom = whom
        self.hello: api.Hello | None = None
        self._lost = lost
        self._buffer = bytearray()
        self._joining = Joining()
        self._waiting: dict[int, asyncio.Future[api.Result]] = {}
        self._events: dict[int, Callable[[api.Event], None]] = {}
        self._endings: dict[int, Callable[[], None]] = {}
        self._next = 1
        self._over: OmError | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- what a transport is

    def write(self, message: api.ToAgent) -> None:
        """Send a line; raises OmError where that cannot be."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """Close the connection."""
        raise NotImplementedError

    # -- what the transport calls

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""
        start = len(self._buffer)
        self._buffer += data
        while (end := self._buffer.find(b"\n", start)) >= 0:
            start = 0
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._line(line)
        if len(self._buffer) > api.MAX_LINE:
            self._end(BadRequest(why=_("a line of more than {n} bytes").format(n=api.MAX_LINE)))

    def lost(self, why: str) -> None:
        """The connection is gone."""
        self._end(self._lost(why))

    # -- what programs call

    @property
    def over(self) -> bool:
        """Whether it is of no use any more."""
        return self._over is not None

    async def ready(self) -> None:
        """Wait for the other side's hello; raises AgentVersion, or what `lost` worded."""
        await asyncio.shield(self._ready)

    async def call(
        self,
        request: api.Request,
        result: type[_R],
        uid: int | None = None,
        on_event: Callable[[api.Event], None] | None = None,
    ) -> _R:
        """Ask something.

        Args:
            request: what.
            result: the type of the answer.
            uid: for whom, where an agent asks for a user.
            on_event: called with every notice that belongs to this call; for a subscription also after the
                answer.

        Raises:
            OmError: whatever the other side raised, or that it is gone.
        """
        answer, _number = await self._ask(request, uid, on_event)
        if not isinstance(answer, result):
            raise BadRequest(why=f"{type(answer).__name__} instead of {result.__name__}")
        return answer

    async def events(self, wanted: api.Subscribe = _OWN) -> AsyncIterator[api.Event]:
        """Subscribe: everything that happens from now on, until the connection ends (an OmError)."""
        queue: asyncio.Queue[api.Event | None] = asyncio.Queue()
        stop = await self.follow(queue.put_nowait, lambda _why: queue.put_nowait(None), wanted)
        try:
            while not (self.over and queue.empty()):
                event = await queue.get()
                if event is None:
                    break
                yield event
            raise self._over or self._lost(_("it hung up"))
        finally:
            stop()

    async def follow(
        self,
        on_event: Callable[[api.Event], None],
        on_end: Callable[[OmError], None],
        wanted: api.Subscribe = _OWN,
    ) -> Callable[[], None]:
        """Subscribe.

        Args:
            on_event: called with everything that happens from now on.
            on_end: called once if the connection ends before that is enough.
            wanted: of which node.

        Returns:
            To be called when it is enough.

        Raises:
            OmError: as `call`.
        """
        _answer, number = await self._ask(wanted, None, on_event)
        self._endings[number] = lambda: on_end(self._over or self._lost(_("it hung up")))
        return partial(self._enough, number)

    # -- inside

    async def _ask(
        self, request: api.Request, uid: int | None, on_event: Callable[[api.Event], None] | None
    ) -> tuple[api.Result, int]:
        if self._over is not None:
            raise self._over
        number, self._next = self._next, self._next + 1
        future: asyncio.Future[api.Result] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if on_event is not None:
            self._events[number] = on_event
        try:
            self.write(api.Call(number, request, uid))
            return await future, number
        except BaseException:
            if isinstance(request, api.Subscribe):
                self._enough(number)
            raise
        finally:
            self._waiting.pop(number, None)
            if not isinstance(request, api.Subscribe):
                self._events.pop(number, None)

    def _enough(self, number: int) -> None:
        """That subscription is not wanted any more."""
        self._endings.pop(number, None)
        if self._events.pop(number, None) is not None and not self.over:
            with contextlib.suppress(OmError):
                self.write(api.Enough(number))

    def _line(self, line: bytes) -> None:
        try:
            message = self._joining.take(_decoder.decode(line))
        except BadRequest as error:
            self._end(error)
            return
        except msgspec.MsgspecError as error:
            log.warn("a peer said what cannot be read", peer=self.whom, why=error)
            return
        if isinstance(message, api.Hello):
            self._hello(message)
        elif isinstance(message, api.Notice):
            if handler := self._events.get(message.id):
                handler(message.event)
        elif isinstance(message, api.Failure):
            self._failed(message)
        elif isinstance(message, api.Answer):
            self._answered(message)

    def _answered(self, answer: api.Answer) -> None:
        if (future := self._waiting.get(answer.id)) and not future.done():
            future.set_result(answer.result)

    def _failed(self, failure: api.Failure) -> None:
        error = OmError.from_wire(failure.error)
        if failure.id == 0:  # of no call: the whole conversation
            self._end(error)
        elif (future := self._waiting.get(failure.id)) and not future.done():
            future.set_exception(error)

    def _hello(self, hello: api.Hello) -> None:
        self.hello = hello
        if hello.version != api.VERSION:
            self._end(AgentVersion(theirs=hello.version, ours=api.VERSION))
        elif not self._ready.done():
            self._ready.set_result(None)

    def _end(self, error: OmError) -> None:
        if self._over is not None:
            return
        self._over = error
        futures: list[asyncio.Future[Any]] = [*self._waiting.values(), self._ready]
        for future in futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: nobody may be waiting for this one
        for ending in list(self._endings.values()):
            ending()
        self.hang_up()


class UnixAsking(Asking, asyncio.Protocol):
    """A conversation over the agent's unix socket; `open_unix` makes one."""

    def __init__(self, path: Path, who: api.Hello) -> None:
        super().__init__(str(path), lambda _why: NoAgent(socket=str(path)))
        self._who = who
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.write(self._who)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The agent hung up, or we did."""
        self._closed.set()
        self.lost(str(exc or ""))

    def write(self, message: api.ToAgent) -> None:
        """See `Asking`."""
        if self._transport is None or self._transport.is_closing():
            raise self._lost("")
        self._transport.write(api.line_of(message))

    def hang_up(self) -> None:
        """See `Asking`."""
        if self._transport is not None:
            self._transport.close()

    async def close(self) -> None:
        """Hang up, and wait until it is done."""
        self.hang_up()
        if self._transport is not None:
            await self._closed.wait()


async def open_unix(path: Path, name: str) -> UnixAsking:
    """Talk to the agent that serves that socket.

    Args:
        path: the socket.
        name: of the program.

    Raises:
        NoAgent: nothing answers there.
        AgentVersion: it speaks another version.
    """
    loop = asyncio.get_running_loop()
    who = api.Hello(api.VERSION, name=name)
    try:
        _transport, asking = await loop.create_unix_connection(lambda: UnixAsking(path, who), str(path))
    except OSError:
        raise NoAgent(socket=str(path)) from None
    try:
        async with asyncio.timeout(_PATIENCE):
            await asking.ready()
    except TimeoutError:
        await asking.close()
        raise NoAgent(socket=str(path)) from None
    except BaseException:
        with contextlib.suppress(OSError):
            await asking.close()
        raise
    return asking
