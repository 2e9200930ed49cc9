"""Settings of processes: kept at home, and told to the node that hosts the process, where they are obeyed."""

from __future__ import annotations

import asyncio
import os
from typing import assert_never

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.candidates import Candidates
from omtools.agent.config import Configuration
from omtools.agent.keepers import Keeper, Keepers
from omtools.agent.memo import Memo
from omtools.agent.peers import Peers
from omtools.cluster.process_settings import DEFAULTS, ProcessSettings
from omtools.errors import NoSuchProcess, OmError

Request = api.Lock | api.SetProcess | api.GetProcess | api.GuestSettings | api.SetDecay | api.GetDecay


class Wishes:
    """What owners want of their processes, on one node."""

    def __init__(
        self, configuration: Configuration, memo: Memo, keepers: Keepers, peers: Peers, candidates: Candidates
    ) -> None:
        self._configuration = configuration
        self._memo = memo
        self._keepers = keepers
        self._peers = peers
        self._candidates = candidates
        self._told: dict[str, ProcessSettings] = {}  # by migration: what its host knows

    async def handle(self, request: Request, caller: Caller) -> api.Result:
        """Do what is asked; raises OmError."""
        match request:
            case api.Lock():
                await self.set(api.SetProcess(request.pid, ProcessSettings(request.locked)), caller)
                return api.Done()
            case api.SetProcess():
                return await self.set(request, caller)
            case api.GetProcess():
                return self.get(request.pid)
            case api.GuestSettings():
                return self.hear(request, caller)
            case api.SetDecay():
                caller.check_master("setdecay")
                self._memo.set_decay(request.decay)
                return api.Done()
            case api.GetDecay():
                return self._memo.decay
        assert_never(request)

    async def set(self, request: api.SetProcess, caller: Caller) -> ProcessSettings:
        """Make settings of a process; returns all that hold for it now.

        Raises:
            NoSuchProcess: there is none.
            NotYourProcess: it is somebody else's.
            NodeDown: it is a guest, and its home does not answer.
        """
        pid = request.pid
        if (guest := self._keepers.guest_of(pid)) is not None:
            caller.check_process(pid, guest.state.uid)
            home = self._configuration.map.number(guest.state.home)
            asked = api.SetProcess(guest.state.pid, request.settings, request.clear)
            return await self._peers.call(home, asked, ProcessSettings, uid=caller.uid)
        try:
            caller.check_process(pid, os.stat(f"/proc/{pid}").st_uid)
            self._memo.set(pid, request.settings)
        except FileNotFoundError:
            raise NoSuchProcess(pid=pid) from None
        if request.clear:
            self._candidates.clear(pid)
        log.info("settings of a process were made", pid=pid, by=caller.where, uid=caller.uid)
        await self._tell_hosts(pid if request.clear else 0)
        return self._memo.settings(pid).over(DEFAULTS)

    def get(self, pid: int) -> ProcessSettings:
        """All settings that hold for a process of this node, or a guest.

        Raises:
            NoSuchProcess: there is none.
        """
        if (guest := self._keepers.guest_of(pid)) is not None:
            return self._memo.guest(guest.state.migration).over(DEFAULTS)
        if not os.path.exists(f"/proc/{pid}"):
            raise NoSuchProcess(pid=pid)
        return self._memo.settings(pid).over(DEFAULTS)

    def of_keeper(self, keeper: Keeper) -> ProcessSettings:
        """What holds for a process with one half here."""
        state = keeper.state
        if state.role == "guest":
            return self._memo.guest(state.migration)
        return self._memo.settings(state.local_pid)

    def leaving(self, pid: int) -> ProcessSettings:
        """What the host of a process that leaves is told."""
        return self._memo.settings(pid)

    def arriving(self, migration: str, settings: ProcessSettings) -> None:
        """A guest comes."""
        self._memo.set_guest(migration, settings)

    def hear(self, request: api.GuestSettings, caller: Caller) -> api.Done:
        """A guest's home says that its settings changed."""
        caller.check_node("guest_settings")
        for keeper in self._keepers.all():
            state = keeper.state
            if state.role == "guest" and state.migration == request.migration:
                self._memo.set_guest(request.migration, request.settings)
                if request.clear:
                    self._candidates.clear(state.local_pid)
        return api.Done()

    def gone(self, keeper: Keeper) -> None:
        """That half of a process is here no more."""
        if keeper.state.role == "guest":
            self._memo.forget_guest(keeper.state.migration)
        else:
            self._told.pop(keeper.state.migration, None)

    async def _tell_hosts(self, cleared: int) -> None:
        """Descendants inherit: whatever changed, all processes that are away are looked at."""
        seen: dict[int, ProcessSettings] = {}
        tasks = []
        for keeper in self._keepers.all():
            state = keeper.state
            if state.role != "deputy" or keeper.final or state.node == self._configuration.node.number:
                continue
            settings = self._memo.settings(state.local_pid, seen)
            clear = state.local_pid == cleared
            if clear or self._told.get(state.migration) != settings:
                tasks.append(self._tell(keeper, settings, clear))
        await asyncio.gather(*tasks)

    async def _tell(self, keeper: Keeper, settings: ProcessSettings, clear: bool) -> None:
        state = keeper.state
        try:
            host = self._configuration.map.number(state.node)
            await self._peers.call(host, api.GuestSettings(state.migration, settings, clear), api.Done)
        except OmError as error:
            # Not in _told: the next change of anything tells it again.
            log.warn("a host was not told of settings", pid=state.pid, mig=state.migration, why=error)
        else:
            self._told[state.migration] = settings
