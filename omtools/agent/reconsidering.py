"""``migrate PID balance``: somebody asks where a process now runs best, and it goes there."""

from __future__ import annotations

import time

from omtools.agent import api
from omtools.agent.balancing import Balancing
from omtools.agent.callers import Caller
from omtools.agent.candidates import Candidates
from omtools.agent.config import Configuration
from omtools.agent.gauge import Gauge
from omtools.agent.keepers import Keepers
from omtools.agent.migrations import Migrations
from omtools.agent.peers import Peers
from omtools.cluster.balance import Refusal
from omtools.cluster.constraints import REASONS
from omtools.errors import MigrationRunning, NoSuchProcess, StaysThere
from omtools.i18n import _

BALANCE = "balance"
_PATIENCE = 3600.0  # for the host: it follows the move itself, stage by stage


class Reconsidering:
    """Asks the policy about single processes, on the node where they run."""

    def __init__(  # noqa: PLR0917 - the agent's parts
        self,
        configuration: Configuration,
        candidates: Candidates,
        keepers: Keepers,
        gauge: Gauge,
        balancing: Balancing,
        migrations: Migrations,
        peers: Peers,
    ) -> None:
        self._configuration = configuration
        self._candidates = candidates
        self._keepers = keepers
        self._gauge = gauge
        self._balancing = balancing
        self._migrations = migrations
        self._peers = peers

    async def migrate(self, pid: int, caller: Caller) -> api.Moved:
        """Move a process of this node, or a guest, to where it now runs best.

        Raises:
            StaysThere: it runs where it should, or may go nowhere.
            OmError: as `Migrations.migrate`.
        """
        keeper = self._keepers.deputy_of(pid)
        if keeper is None:
            return await self._here(pid, caller)
        state = keeper.state
        caller.check_process(pid, state.uid)
        if state.phase != "away":
            raise MigrationRunning(pid=pid)
        host = self._configuration.map.number(state.node)
        asked = api.Reconsider(state.migration)
        return await self._peers.call(host, asked, api.Moved, uid=caller.uid, patience=_PATIENCE)

    async def of_peer(self, request: api.Reconsider, caller: Caller) -> api.Moved:
        """The same for a guest, when its home asks."""
        caller.check_node("reconsider")
        for keeper in self._keepers.all():
            if keeper.state.role == "guest" and keeper.state.migration == request.migration:
                return await self._here(keeper.state.local_pid, caller)
        raise NoSuchProcess(pid=request.migration)

    async def _here(self, pid: int, caller: Caller) -> api.Moved:
        guest = self._keepers.guest_of(pid)
        process = self._candidates.one(pid, time.monotonic(), guest, self._gauge.speed)
        if process is None:
            raise NoSuchProcess(pid=pid)
        caller.check_process(pid, process.uid)
        found = self._balancing.weigh(process)
        if isinstance(found, Refusal):
            raise StaysThere(pid=pid, reason=_(REASONS[found.reason]))
        return await self._migrations.migrate(pid, str(found.target), caller, found)
