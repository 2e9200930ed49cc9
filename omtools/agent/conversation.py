"""One client's conversation with the agent: lines in, lines out, no transport.

The unix socket and the SSH channel feed the same class, so both speak the same bytes, and it can be tested
without either.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Protocol

import msgspec

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.parts import lines_of
from omtools.errors import AgentVersion, BadRequest, OmError
from omtools.i18n import _

MAX_CALLS = 256  # that one client may have open at a time
MAX_UNREAD = 8 << 20  # bytes that a client may leave unread
MAX_LONG = 8  # answers longer than a line that may wait for one client to read
_ROOM = MAX_UNREAD // 4  # unread bytes up to which the next part of a long answer is written
_LOOK = 0.02  # seconds until it is looked again whether there is room; transports do not tell
_STALLED = 30.0  # seconds in which a client must have read something of a long answer

Notify = Callable[[api.Event], None]


class Dispatcher(Protocol):
    """The agent, as a conversation sees it."""

    def hello(self) -> api.Hello:
        """How the agent introduces itself."""
        ...

    async def handle(self, request: api.Request, caller: Caller, notify: Notify) -> api.Result:
        """Do what is asked; raises OmError."""
        ...

    def forget(self, notify: Notify) -> None:
        """That subscriber is gone."""
        ...


class Conversation:
    """One client. The transport calls `feed` and `lost`, the conversation calls `write` and `close`."""

    def __init__(
        self,
        agent: Dispatcher,
        caller: Caller,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        unread: Callable[[], int] = lambda: 0,
    ) -> None:
        self._agent = agent
        self._caller = caller
        self._write = write
        self._close = close
        self._unread = unread
        self._buffer = bytearray()
        self._decoder = msgspec.json.Decoder(api.ToAgent)
        self._greeted = False
        self._over = False
        self._calls: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[int, Notify] = {}
        self._long = 0
        self._one_long = asyncio.Lock()
        self._send(agent.hello())

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""
        start = len(self._buffer)
        self._buffer += data
        while not self._over:
            end = self._buffer.find(b"\n", start)
            if end < 0:
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            start = 0
            self._line(line)
        if len(self._buffer) > api.MAX_LINE and not self._over:
            self._end(BadRequest(why=_("a line of more than {n} bytes").format(n=api.MAX_LINE)))

    def lost(self) -> None:
        """The client is gone: nobody waits for the answers any more (what was begun goes on)."""
        self._over = True
        self._buffer.clear()
        for task in self._calls:
            task.cancel()
        for notify in self._subscriptions.values():
            self._agent.forget(notify)
        self._subscriptions.clear()

    def _line(self, line: bytes) -> None:
        if len(line) > api.MAX_LINE:
            self._end(BadRequest(why=_("a line of more than {n} bytes").format(n=api.MAX_LINE)))
            return
        if not line.strip():
            return
        try:
            message = self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._misunderstood(line, str(error))
            return
        if isinstance(message, api.Hello):
            self._hello(message)
        elif not self._greeted:
            self._end(BadRequest(why=_("the first line must be a hello")))
        elif isinstance(message, api.Enough):
            if (notify := self._subscriptions.pop(message.id, None)) is not None:
                self._agent.forget(notify)
        else:
            self._begin(message)

    def _misunderstood(self, line: bytes, why: str) -> None:
        failure = BadRequest(why=why)
        if self._greeted:
            self._send(api.Failure(api.id_of(line), failure.to_wire()))
        else:
            self._end(failure)

    def _hello(self, hello: api.Hello) -> None:
        if hello.version != api.VERSION:
            # Worded for the client that reads it: theirs is this agent's.
            self._end(AgentVersion(theirs=api.VERSION, ours=hello.version))
        self._greeted = True

    def _begin(self, call: api.Call) -> None:
        if len(self._calls) >= MAX_CALLS:
            self._send(
                api.Failure(
                    call.id, BadRequest(why=_("more than {n} calls at a time").format(n=MAX_CALLS)).to_wire()
                )
            )
            return
        task = asyncio.get_running_loop().create_task(self._answer(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, call: api.Call) -> None:
        def notify(event: api.Event) -> None:
            self._send(api.Notice(call.id, event))

        try:
            if isinstance(call.request, api.Subscribe):
                self._subscribe(call.id, notify)
            result = await self._agent.handle(call.request, self._caller.acting_for(call.uid), notify)
        except OmError as error:
            if isinstance(call.request, api.Subscribe) and self._subscriptions.get(call.id) is notify:
                del self._subscriptions[call.id]
            self._send(api.Failure(call.id, error.to_wire()))
        except Exception as error:
            log.failed("a request failed", error, request=type(call.request).__name__)
            self._send(
                api.Failure(
                    call.id,
                    OmError(
                        detail=_("The agent made a mistake ({error}); its log has more.").format(
                            error=type(error).__name__
                        )
                    ).to_wire(),
                )
            )
        else:
            await self._send_answer(api.Answer(call.id, result))

    def _subscribe(self, number: int, notify: Notify) -> None:
        if len(self._subscriptions) >= MAX_CALLS or number in self._subscriptions:
            raise BadRequest(why=_("more than {n} subscriptions at a time").format(n=MAX_CALLS))
        self._subscriptions[number] = notify

    async def _send_answer(self, answer: api.Answer) -> None:
        lines = lines_of(answer)
        first = next(lines)
        second = next(lines, None)
        if second is None:
            self._send_line(first)
            return
        if self._long >= MAX_LONG:
            why = _("more than {n} long answers at a time").format(n=MAX_LONG)
            self._send(api.Failure(answer.id, BadRequest(why=why).to_wire()))
            return
        self._long += 1
        try:
            async with self._one_long:
                for line in itertools.chain((first, second), lines):
                    await self._wait_for_room()
                    self._send_line(line)
        finally:
            self._long -= 1

    async def _wait_for_room(self) -> None:
        """Until the client has read enough of what was written; one that reads nothing is let go."""
        least, patience = self._unread(), _STALLED
        while not self._over and (unread := self._unread()) > _ROOM:
            if unread < least:
                least, patience = unread, _STALLED
            elif patience <= 0:
                self._let_go()
                return
            patience -= _LOOK
            await asyncio.sleep(_LOOK)

    def _send(self, message: api.FromAgent) -> None:
        self._send_line(api.line_of(message))

    def _send_line(self, line: bytes) -> None:
        if self._over:
            return
        self._write(line)
        if self._unread() > MAX_UNREAD:
            self._let_go()

    def _let_go(self) -> None:
        log.warn("a client does not read its answers and is let go", client=self._caller.where)
        self._over = True
        self._close()

    def _end(self, error: OmError) -> None:
        self._send(api.Failure(0, error.to_wire()))
        self._over = True
        self._close()
