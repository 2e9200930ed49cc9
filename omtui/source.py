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

from omtools.agent import api
from omtools.agent.asking import UnixAsking, open_unix
from omtools.agent.paths import agent_socket
from omtools.errors import NoAgent, OmError
from omtui.actions import (
    Action,
    Renice,
    Signal,
    cleared_sentence,
    decay_sentence,
    moved_sentence,
    tuned_sentence,
)
from omtui.feed import Progress
from omtui.local import Machine, ThisMachine
from omtui.model import State

_R = TypeVar("_R")
_SHARE = 200.0  # times what the list of processes costs passes before it is asked for again
_SOON = 0.1  # seconds until an event is shown
_EVENTS_SHARE = 200.0  # times what drawing costs passes, if that is more
_PATIENCE = 10.0  # seconds, for what an agent answers at once or not at all


class Source:
    """Keeps a `State` up to date.

    Attributes:
        state: what the screens show.
        want_processes: a screen shows processes; else they are not asked for.
        want_report: number, name or address of the node whose own report a screen shows, "" for the agent's
            own; None: no report is asked for.
        want_calls: pid of the process of which a screen shows how long its calls take; 0: none.
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
        self.want_report: str | None = None
        self.want_calls = 0
        self.asked = 0
        self._path = path or agent_socket()
        self._name = name
        self._interval = interval
        self._machine: Machine = machine or ThisMachine()
        self._link: UnixAsking | None = None
        self._followed: set[int] = set()  # other nodes of which the agent tells what happens there
        self._linking = asyncio.Lock()
        self._settling: asyncio.TimerHandle | None = None
        self._drawing = 0.0  # seconds of a processor that telling the listeners took
        self._processes_due = 0.0
        self._unheard = True  # of the processes that are away, since the connection stands
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
        self._unheard = True  # of the processes that are away, since the connection stands
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
            views = await self._ask(api.Views(), api.NodeViews, _PATIENCE)
            self.state.hear_views(views)
            if self.want_report is not None:
                self.state.report = await self._ask(api.NodeInfo(self.want_report), api.NodeReport, _PATIENCE)
            if self.want_processes and time.monotonic() >= self._processes_due:
                await self._ask_processes()
            elif self._unheard:  # what will be told of them is news only against what is so now
                self.state.know(await self._ask(api.Processes(all=True), api.ProcessList, _PATIENCE))
                self._unheard = False
            if self.want_calls:
                self.state.latencies = (self.want_calls, await self._calls_of(self.want_calls))
            self.state.trouble = ""
        except OmError as error:
            self.state.trouble = str(error)
        self._tell()

    async def _ask_processes(self) -> None:
        """All processes anew.

        Changes come as events between two such pictures, so with very many processes they may be far between:
        no more than half a hundredth of a processor is spent on them.
        """
        begun = time.process_time()
        local = await asyncio.to_thread(self._machine.processes)
        listing = await self._ask(api.Processes(all=True), api.ProcessList, _PATIENCE)
        self.state.hear_processes(listing, local, time.time())
        self._unheard = False
        self._processes_due = time.monotonic() + _SHARE * (time.process_time() - begun)

    async def _calls_of(self, pid: int) -> api.CallFigures | str:
        try:
            return await self._ask(api.Calls(pid), api.CallFigures, _PATIENCE)
        except NoAgent:
            raise
        except OmError as error:  # of that process nobody tells; of all else they do
            return str(error)

    async def _ask(
        self,
        request: api.Request,
        result: type[_R],
        patience: float | None = None,
        on_event: Callable[[api.Event], None] | None = None,
    ) -> _R:
        """Ask something; whoever does not answer in time has lost the connection. Raises OmError."""
        link = await self._connected()
        try:
            async with asyncio.timeout(patience):
                return await link.call(request, result, None, on_event)
        except TimeoutError:
            link.hang_up()
            raise NoAgent(socket=str(self._path)) from None

    async def _connected(self) -> UnixAsking:
        async with self._linking:
            if self._link is None or self._link.over:
                await self._hang_up()
                link = await open_unix(self._path, self._name)
                self._link = link
                self._followed.clear()
                self._unheard = True
                await link.call(api.Subscribe(all=True), api.Done, None, self._hear)
            return self._link

    async def _hang_up(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _hear(self, event: api.Event) -> None:
        """An event of this node, or of another that is followed."""
        if isinstance(event, api.Followed):
            (self._followed.add if event.on else self._followed.discard)(event.node)
            if event.error:
                self._happened(event.node, event)
        elif isinstance(event, api.Elsewhere):
            self._happened(event.node, event.event)
        else:
            self._happened(0, event)

    def _happened(self, node: int, event: api.Told) -> None:
        """It happened there, 0: on the agent's own node.

        Many events may come at once: the screens are told of all of them together.
        Where that is dear, it is done less often; with the next picture at the latest.
        """
        if self.state.hear_event(event, time.time(), node) and self._settling is None:
            wait = min(max(_SOON, _EVENTS_SHARE * self._drawing), self._interval)
            self._settling = asyncio.get_running_loop().call_later(wait, self._tell)

    def _tell(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        begun = time.thread_time()
        if self.want_processes:
            self.state.settle()
        for changed in list(self._listeners):
            changed()
        self._drawing = time.thread_time() - begun

    async def report_of(self, word: str) -> api.NodeReport:
        """How a node does, by its own account.

        Raises:
            OmError: it cannot be asked.
        """
        return await self._ask(api.NodeInfo(word), api.NodeReport)

    async def cantmove(self, pid: int) -> str:
        """Why a process could not migrate now, "" if nothing is in the way.

        Raises:
            OmError: nobody can tell.
        """
        return (await self._ask(api.Inspect(pid, survey=True), api.Inspected, _PATIENCE)).cannot

    async def do(self, action: Action, progress: Progress | None = None) -> str:
        """Do something; returns the sentence that tells what came of it.

        Args:
            action: what.
            progress: is told how far expelling or bringing is.

        Raises:
            OmError: it could not be done.
        """
        if isinstance(action.request, Signal | Renice):
            self._act_here(action.request)
            self.nudge()
            return action.done

        def told(event: api.Event) -> None:
            if isinstance(event, api.Clearing) and progress is not None:
                progress(event.done, event.total)

        result = await self._ask(action.request, object, None, told)
        self.nudge()
        if isinstance(result, api.Moved):
            names = (self.state.name_of(number) for number in (result.source, result.target))
            return moved_sentence(result, *names)
        if isinstance(result, api.Cleared):
            return cleared_sentence(result)
        if isinstance(result, api.Tuned) and not action.done:
            return tuned_sentence(result)
        return decay_sentence(result) if isinstance(result, api.NodeDecay) else action.done

    def _act_here(self, request: Signal | Renice) -> None:
        if isinstance(request, Signal):
            self._machine.signal(request.pid, request.name)
        else:
            self._machine.renice(request.pid, request.nice)
