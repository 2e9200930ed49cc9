"""Takes one picture of the cluster after the other and has them written.

The agent of this node tells how all nodes are, and passes on the question for their processes. Its own
events, and those of the nodes that it follows, come as they happen; what happens on nodes that wait for their
turn is read off what changes there from one list to the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from omtools.agent import api, log
from omtools.errors import OmError
from omtui.local import Machine
from omtui.model import is_up
from omtui.recording.picture import Picture, by_key, copied, happenings_between
from omtui.recording.recorder import Recorder
from omtui.source import Source

_TURN = 16  # other nodes that are asked for their processes with one picture; more of them take turns
_PATIENCE = 5.0  # seconds for another node's list
_COST = 20.0  # times what a picture costs passes before the next
_SHARE = 50.0  # times what a list of processes costs passes before the next
_MOST_EVENTS = 10_000  # that wait to be written, while the disk is full


class Collecting(Source):
    """Records until it is cancelled.

    Attributes:
        written: how many pictures so far.
    """

    def __init__(
        self,
        recorder: Recorder,
        path: Path | None = None,
        interval: float = 1.0,
        machine: Machine | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            recorder: writes it down.
            path: the agent's socket; None: the one that belongs to this user.
            interval: seconds between two pictures.
            machine: where the agent's processes are; None: this one.
            clock: seconds since the epoch.
        """
        super().__init__(path, "omcollector", interval, machine)
        self.written = 0
        self._wanted = interval
        self._recorder = recorder
        self._clock = clock
        self._picture = Picture()
        self._waiting: list[tuple[int, int, api.Told]] = []
        self._told: set[int] = set()  # nodes that were followed when the last picture was taken
        self._turn = 0
        self._due = 0.0
        self._why = ""

    async def refresh(self) -> None:
        """Take a picture and write it; what goes wrong is said once, and tried again with the next."""
        self.asked += 1
        begun = time.process_time()
        try:
            picture = copied(self._picture)
            asked = await self._look(picture)
            self._write(picture, asked)
        except OmError as error:
            self._complain(error)
            return
        if self._why:
            self._why = ""
            log.info("recording goes on", file=self._recorder.path)
        self._picture = picture
        self._interval = max(self._wanted, _COST * (time.process_time() - begun))

    def _complain(self, error: OmError) -> None:
        if str(error) != self._why:
            self._why = str(error)
            log.warn(self._why)

    async def _look(self, picture: Picture) -> list[int]:
        """Look at everything; returns the nodes that were asked for their processes."""
        views = await self._ask(api.Views(), api.NodeViews, _PATIENCE)
        picture.own = views.own
        picture.nodes = {view.number: view for view in views.nodes}
        up = {view.number for view in views.nodes if is_up(view)}
        for node in picture.processes.keys() - up - {views.own}:
            del picture.processes[node]
        if time.monotonic() < self._due:
            return []
        begun = time.process_time()
        local = await asyncio.to_thread(self._machine.processes)
        picture.local = {process.pid: process for process in local}
        others = sorted(up - {views.own})
        turn = [others[(self._turn + index) % len(others)] for index in range(min(_TURN, len(others)))]
        self._turn += len(turn)
        found = await asyncio.gather(self._list(0), *(self._list(node) for node in turn))
        asked = []
        for listing in found:
            if listing is not None:
                picture.processes[listing.node] = by_key(listing.processes)
                asked.append(listing.node)
        self._due = time.monotonic() + _SHARE * (time.process_time() - begun)
        return asked

    async def _list(self, node: int) -> api.ProcessList | None:
        """The processes of a node, 0: the agent's own; None: it does not answer, or tells others only."""
        request = api.Processes(all=True, node=str(node) if node else "")
        if not node:
            return await self._ask(request, api.ProcessList, _PATIENCE)
        link = await self._connected()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await link.call(request, api.ProcessList)
        except (OmError, TimeoutError):
            return None

    def _read_off(self, after: Picture, asked: list[int], now: int) -> list[tuple[int, int, api.Told]]:
        """What happened on other nodes since the last picture."""
        before = self._picture
        told, self._told = self._told & self._followed, set(self._followed)
        return [
            (now, node, event)
            for node in sorted(after.nodes.keys() - {after.own} - told)
            if node in asked or before.nodes.get(node) != after.nodes.get(node)
            for event in happenings_between(before, after, node)
        ]

    def _happened(self, node: int, event: api.Told) -> None:
        """It is written with the next picture."""
        self._waiting.append((round(self._clock() * 1000), node or self._picture.own, event))
        del self._waiting[:-_MOST_EVENTS]

    def _write(self, picture: Picture, asked: list[int]) -> None:
        """Write it; if that fails, what changed since the last one that was written comes with the next."""
        now = round(self._clock() * 1000)
        heard = [(at, node or picture.own, event) for at, node, event in self._waiting]
        self._recorder.write(now, picture, asked, heard + self._read_off(picture, asked, now), self._why)
        self._waiting.clear()
        self.written += 1
