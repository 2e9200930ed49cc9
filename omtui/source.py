"""Where the screens' figures come from: the local agent, asked once a second, and heard in between.

One connection for everything: questions are numbered, so a migration that takes its time does not hold up
the next picture. When the agent goes away the last picture stays, the state says in one sentence what is
the matter, and the connection is tried anew every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from omtools.agent import api
from omtools.agent.paths import agent_socket
from omtools.errors import AgentVersion, BadRequest, NoAgent, OmError
from omtui.actions import Action, Renice, Signal, cleared_sentence, moved_sentence
from omtui.local import Machine, ThisMachine
from omtui.model import State

_R = TypeVar("_R")
_LIMIT = 1 << 26  # of one answer: 65,535 nodes need some 20 MB
_SHARE = 100.0  # times what the list of processes costs passes before it is asked for again
_PATIENCE = 10.0  # seconds, for what an agent answers at once or not at all
_decoder = msgspec.json.Decoder(api.FromAgent)


class AgentLink:
    """One connection to an agent, many questions at a time."""

    def __init__(self, path: Path, heard: Callable[[api.Event], None]) -> None:
        """Not connected yet.

        Args:
            path: of the agent's socket.
            heard: is told every event.
        """
        self._path = path
        self._heard = heard
        self._asked: dict[int, asyncio.Future[api.Result]] = {}
        self._next = 1
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None

    async def open(self, name: str) -> None:
        """Connect and subscribe.

        Raises:
            NoAgent: nothing answers there.
            AgentVersion: it speaks another version.
        """
        try:
            reader, self._writer = await asyncio.open_unix_connection(self._path, limit=_LIMIT)
            self._writer.write(api.line_of(api.Hello(api.VERSION, name=name)))
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
        except OSError:
            raise self._gone() from None
        if not line:
            raise self._gone()
        message = self._read(line)
        if isinstance(message, api.Failure):
            raise OmError.from_wire(message.error)
        if not isinstance(message, api.Hello):
            raise BadRequest(why=type(message).__name__)
        if message.version != api.VERSION:
            raise AgentVersion(theirs=message.version, ours=api.VERSION)
        self._listener = asyncio.create_task(self._listen(reader))
        await self.ask(api.Subscribe(), api.Done, _PATIENCE)

    async def close(self) -> None:
        """Hang up. The connection is given up before anything is awaited: who closes may be in a hurry."""
        listener, self._listener = self._listener, None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        if writer is not None:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, request: api.Request, result: type[_R], patience: float | None = None) -> _R:
        """Ask something.

        Args:
            request: what.
            result: the type of the answer.
            patience: seconds; None: as long as it takes.

        Raises:
            OmError: whatever the agent raised; NoAgent if it is or goes away.
        """
        if self._writer is None or self._listener is None or self._listener.done():
            raise self._gone()
        number, self._next = self._next, self._next + 1
        answer: asyncio.Future[api.Result] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._writer.write(api.line_of(api.Call(number, request)))
        try:
            async with asyncio.timeout(patience):
                found = await answer
        except TimeoutError:
            raise self._gone() from None
        finally:
            self._asked.pop(number, None)
        if not isinstance(found, result):
            raise BadRequest(why=f"{type(found).__name__} instead of {result.__name__}")
        return found

    def _gone(self) -> NoAgent:
        return NoAgent(socket=str(self._path))

    @staticmethod
    def _read(line: bytes) -> api.FromAgent:
        try:
            message: api.FromAgent = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise BadRequest(why=str(error)) from None
        return message

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        why: OmError = self._gone()
        try:
            while line := await reader.readline():
                self._sort(self._read(line))
        except (OSError, ValueError):  # it broke off, or sent a line without end
            pass
        except OmError as error:
            why = error
        finally:
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(why)

    def _sort(self, message: api.FromAgent) -> None:
        if isinstance(message, api.Notice):
            self._heard(message.event)
            return
        if isinstance(message, api.Hello):
            return
        answer = self._asked.get(message.id)
        if answer is None or answer.done():
            return
        if isinstance(message, api.Failure):
            answer.set_exception(OmError.from_wire(message.error))
        else:
            answer.set_result(message.result)


class Source:
    """Keeps a `State` up to date.

    Attributes:
        state: what the screens show.
        want_processes: a screen shows processes; else they are not asked for.
        want_report: a screen shows the node's own report; else it is not asked for.
        asked: how many pictures were tried so far.
    """

    def __init__(
        self,
        path: Path | None = None,
        name: str = "omtui",
        interval: float = 1.0,
        machine: Machine | None = None,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            path: the agent's socket; None: the one that belongs to this user.
            name: of the program.
            interval: seconds between two pictures.
            machine: where the agent's processes are; None: this one.
        """
        self.state = State()
        self.want_processes = False
        self.want_report = False
        self.asked = 0
        self._path = path or agent_socket()
        self._name = name
        self._interval = interval
        self._machine: Machine = machine or ThisMachine()
        self._link: AgentLink | None = None
        self._events = False
        self._processes_due = 0.0
        self._nudged = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told whenever the state has changed."""
        self._listeners.append(changed)

    def forget(self, changed: Callable[[], None]) -> None:
        """Not any more."""
        self._listeners.remove(changed)

    def nudge(self) -> None:
        """Take the next picture now, of everything."""
        self._processes_due = 0.0
        self._nudged.set()

    async def run(self) -> None:
        """Until cancelled: one picture after the other."""
        try:
            while True:
                await self.refresh()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._nudged.wait()
                self._nudged.clear()
        finally:
            await self._hang_up()

    async def refresh(self) -> None:
        """Take one picture; what goes wrong stands in the state then."""
        self.asked += 1
        try:
            link = await self._connected()
            self.state.hear_views(await link.ask(api.Views(), api.NodeViews, _PATIENCE))
            if self.want_report:
                self.state.report = await link.ask(api.NodeInfo(), api.NodeReport, _PATIENCE)
            if self.want_processes and time.monotonic() >= self._processes_due:
                await self._ask_processes(link)
            self.state.trouble = ""
        except OmError as error:
            self.state.trouble = str(error)
            if isinstance(error, NoAgent | BadRequest | AgentVersion):
                await self._hang_up()
        self._tell()

    async def _ask_processes(self, link: AgentLink) -> None:
        """All processes anew.

        Changes come as events between two such pictures, so with very many processes they may be far between:
        no more than a hundredth of a processor is spent on them.
        """
        begun = time.process_time()
        local = await asyncio.to_thread(self._machine.processes)
        listing = await link.ask(api.Processes(all=True), api.ProcessList, _PATIENCE)
        self.state.hear_processes(listing, local, time.time())
        self._processes_due = time.monotonic() + _SHARE * (time.process_time() - begun)

    async def _connected(self) -> AgentLink:
        if self._link is None:
            link = AgentLink(self._path, self._hear)
            self._link = link
            try:
                await link.open(self._name)
            except BaseException:
                await self._hang_up()
                raise
        return self._link

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _hear(self, event: api.Event) -> None:
        """Many events may come at once: the screens are told of all of them together."""
        if self.state.hear_event(event, time.time()) and not self._events:
            self._events = True
            asyncio.get_running_loop().call_later(min(0.1, self._interval), self._settle)

    def _settle(self) -> None:
        self._events = False
        if self.want_processes:
            self.state.settle()
        self._tell()

    def _tell(self) -> None:
        for changed in list(self._listeners):
            changed()

    async def report_of(self, word: str) -> api.NodeReport:
        """How a node does, by its own account.

        Raises:
            OmError: it cannot be asked.
        """
        link = await self._connected()
        return await link.ask(api.NodeInfo(word), api.NodeReport)

    async def do(self, action: Action) -> str:
        """Do something; returns the sentence that tells what came of it.

        Raises:
            OmError: it could not be done.
        """
        if isinstance(action.request, Signal | Renice):
            self._act_here(action.request)
            self.nudge()
            return action.done
        link = await self._connected()
        result = await link.ask(action.request, object)
        self.nudge()
        if isinstance(result, api.Moved):
            names = (self.state.name_of(number) for number in (result.source, result.target))
            return moved_sentence(result, *names)
        if isinstance(result, api.Cleared):
            return cleared_sentence(result)
        return action.done

    def _act_here(self, request: Signal | Renice) -> None:
        if isinstance(request, Signal):
            self._machine.signal(request.pid, request.name)
        else:
            self._machine.renice(request.pid, request.nice)

    def cantmove(self, pid: int) -> str:
        """Why a process could not migrate now, "" if nothing is in the way."""
        return self._machine.cantmove(pid)
