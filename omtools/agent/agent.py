"""The agent of one node: what it is made of, what it answers, how it starts and ends."""

from __future__ import annotations

import asyncio
import os
from typing import assert_never

from omtools import __version__
from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.config import Configuration
from omtools.agent.conversation import Notify
from omtools.agent.engine import Engine, RealEngine
from omtools.agent.gauge import Gauge
from omtools.agent.guests import Guests
from omtools.agent.keepers import FINAL, Keeper, Keepers
from omtools.agent.keys import Keys, ensure_keys
from omtools.agent.memo import Memo
from omtools.agent.migrations import Migrations
from omtools.agent.paths import make_run_dir
from omtools.agent.peers import Peers
from omtools.agent.server import SshServer, UnixServer
from omtools.cluster.load import BLOCK, CONFIGURED, UP
from omtools.cluster.map import Node
from omtools.errors import NoSuchProcess, OmError
from omtools.migration.orders import Bring, State

_INFO_PATIENCE = 5.0  # for another node to say how it does
_LAST_CALL = 30.0  # seconds that processes get to come home whose link ends with the agent


class Agent:
    """One node's agent. `start` returns when it serves, `stop` when it does not any more."""

    def __init__(self, configuration: Configuration, engine: Engine | None = None) -> None:
        make_run_dir(configuration.run)
        self.configuration = configuration
        self.engine: Engine = engine or RealEngine()
        self.keys: Keys = ensure_keys(configuration.directory, configuration.node.name)
        self.gauge = Gauge(configuration.run, configuration.settings.speed)
        self.keepers = Keepers(configuration.run, self._on_state, self._on_gone)
        self.peers = Peers(configuration, self.keys.client)
        self.guests = Guests(configuration, self.engine, self.keepers, self.gauge)
        self.migrations = Migrations(configuration, self.engine, self.keepers, self.guests, self.peers)
        self._memo = Memo(configuration.run)
        self._subscribers: list[Notify] = []
        self._work: set[asyncio.Task[api.Moved]] = set()
        self._unix = UnixServer(configuration.run, self)
        self._ssh = SshServer(configuration.directory, self.keys.host, self, self.guests.permits)

    @property
    def node(self) -> Node:
        """This node."""
        return self.configuration.node

    @property
    def blocked(self) -> bool:
        """Whether guests are refused."""
        remembered = self._memo.block
        return self.configuration.settings.block if remembered is None else remembered

    @property
    def status(self) -> int:
        """This node's status bits."""
        return CONFIGURED | UP | (BLOCK if self.blocked else 0)

    # -- life

    async def start(self) -> None:
        """Find the keepers of before, then serve.

        Raises:
            AgentRunning: there is an agent already.
            BadConfiguration: it cannot listen.
        """
        await self._unix.open()
        try:
            await self.engine.ensure_template(self.configuration.run)
            await self.keepers.rescan()
            await self._ssh.open(self.configuration.listen, self.configuration.settings.port)
        except BaseException:
            await self._unix.close()
            await self.keepers.close()
            raise
        self.gauge.start()
        log.info(
            "the agent serves",
            name=self.node.name,
            address=self.configuration.listen,
            port=self.configuration.settings.port,
            pid=os.getpid(),
            nodes=len(self.configuration.map),
        )

    async def stop(self) -> None:
        """End. Keepers live on; processes whose link goes through this agent come home first."""
        self.gauge.stop()
        await self._unix.close()
        await self._bring_tunnelled()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._ssh.close()
        await self.migrations.close()
        await self.peers.close()
        await self.keepers.close()
        log.info("the agent ended", name=self.node.name)

    async def _bring_tunnelled(self) -> None:
        waiting = []
        for keeper in [*self.migrations.tunnelled(), *self.guests.tunnelled()]:
            followed = keeper.follow()
            try:
                keeper.tell(Bring(reason="the agent ends, and with it the link"))
            except OmError:
                continue
            log.info(
                "a process comes home, because its link ends with the agent",
                pid=keeper.state.pid,
                mig=keeper.state.migration,
            )
            waiting.append(followed)
        deadline = asyncio.get_running_loop().time() + _LAST_CALL
        for followed in waiting:
            try:
                while (
                    state := await followed.next(deadline - asyncio.get_running_loop().time())
                ) is not None and state.phase not in FINAL:
                    pass
            except TimeoutError:
                log.warn("a process did not come home in time")

    # -- what conversations ask

    def hello(self) -> api.Hello:
        """How the agent introduces itself."""
        return api.Hello(api.VERSION, self.node.number, self.node.name)

    async def handle(  # noqa: PLR0911 - one line for each request there is
        self, request: api.Request, caller: Caller, notify: Notify
    ) -> api.Result:
        """Do what is asked; raises OmError."""
        match request:
            case api.Migrate():
                return await self._migrate(request, caller)
            case api.Processes():
                return await self._processes(request, caller)
            case api.NodeInfo():
                return await self._node_info(request)
            case api.Whois():
                return _named(self._find(request.node))
            case api.Nodes():
                return self._nodes()
            case api.Switch():
                return self._switch(request, caller)
            case api.Lock():
                return self._lock(request, caller)
            case api.Subscribe():
                self._subscribers.append(notify)
                return api.Done()
            case api.PrepareGuest():
                return await self.guests.prepare(request, caller, self.blocked)
        assert_never(request)

    def forget(self, notify: Notify) -> None:
        """That subscriber is gone."""
        if notify in self._subscribers:
            self._subscribers.remove(notify)

    async def _migrate(self, request: api.Migrate, caller: Caller) -> api.Moved:
        # Shielded: when who asked goes away, the move goes on and is still followed and logged.
        task = asyncio.get_running_loop().create_task(
            self.migrations.migrate(request.pid, request.to, caller)
        )
        self._work.add(task)
        task.add_done_callback(self._moved)
        return await asyncio.shield(task)

    def _moved(self, task: asyncio.Task[api.Moved]) -> None:
        self._work.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and not isinstance(error, OmError)
        ):
            log.failed("a migration failed", error)

    async def _processes(self, request: api.Processes, caller: Caller) -> api.ProcessList:
        await asyncio.gather(*(keeper.refresh() for keeper in self.keepers.all() if not keeper.final))
        found = [
            self._info(keeper.state)
            for keeper in self.keepers.all()
            if keeper.spoken.is_set() and not keeper.final
        ]
        mine = [info for info in found if request.all or caller.uid in (0, info.uid)]
        return api.ProcessList(self.node.number, sorted(mine, key=lambda info: info.local_pid))

    def _info(self, state: State) -> api.ProcessInfo:
        figures = state.statistics
        return api.ProcessInfo(
            pid=state.pid,
            local_pid=state.local_pid,
            uid=state.uid,
            role=state.role,
            migration=state.migration,
            home=state.home,
            where=state.node,
            phase=state.phase,
            locked=self._memo.locked(state.local_pid),
            bytes=figures.bytes_moved,
            frozen_ms=figures.frozen_ms,
            total_ms=figures.total_ms,
            calls_forwarded=figures.calls_forwarded,
            moves=figures.moves,
            reason=state.reason,
        )

    async def _node_info(self, request: api.NodeInfo) -> api.NodeReport:
        node = self._find(request.node)
        if node == self.node:
            return self._report()
        try:
            return await self.peers.call(node, api.NodeInfo(), api.NodeReport, patience=_INFO_PATIENCE)
        except OmError as error:
            return api.NodeReport(
                node.number, node.name, node.address, status=CONFIGURED, error=error.to_wire()
            )

    def _report(self) -> api.NodeReport:
        memory = self.gauge.memory()
        roles = [keeper.state.role for keeper in self.keepers.all() if not keeper.final]
        return api.NodeReport(
            number=self.node.number,
            name=self.node.name,
            address=self.node.address,
            status=self.status,
            load=round(self.gauge.loads.upper, 2),
            speed=self.gauge.speed,
            cpus=self.gauge.cpus,
            mem_total=memory.total,
            mem_free=memory.free,
            mem_available=memory.available,
            util=self.gauge.util(),
            guests=roles.count("guest"),
            away=roles.count("deputy"),
            release=self.guests.platform.release,
            version=__version__,
        )

    def _find(self, word: str) -> Node:
        return self.configuration.map.find(word) if word else self.node

    def _nodes(self) -> api.NodeList:
        found = self.configuration.map
        return api.NodeList(
            self.node.number,
            [api.MapRange(r.first, r.host, r.count) for r in found.ranges],
            [_named(node) for node in found.nodes.values()],
        )

    def _switch(self, request: api.Switch, caller: Caller) -> api.Done:
        caller.check_master("noblock" if not request.on else "block")
        self._memo.block = request.on
        log.info("a switch was set", switch=request.name, on=request.on, by=caller.where, uid=caller.uid)
        self._publish(api.SwitchChanged(self.node.number, self.status))
        return api.Done()

    def _lock(self, request: api.Lock, caller: Caller) -> api.Done:
        try:
            caller.check_process(request.pid, os.stat(f"/proc/{request.pid}").st_uid)
            self._memo.lock(request.pid, request.locked)
        except FileNotFoundError:
            raise NoSuchProcess(pid=request.pid) from None
        return api.Done()

    # -- what keepers say

    def _on_state(self, keeper: Keeper, state: State) -> None:
        log.debug(
            "a keeper says",
            pid=state.pid,
            mig=state.migration,
            role=state.role,
            phase=state.phase,
            at=state.node,
            reason=state.reason,
        )
        self._publish(api.ProcessChanged(self._info(state), gone=keeper.final))

    def _on_gone(self, keeper: Keeper) -> None:
        self.guests.gone(keeper)
        self.migrations.gone(keeper)
        # It was killed, or it had become a user who may not remove anything here.
        keeper.path.unlink(missing_ok=True)
        if keeper.state.phase in FINAL:
            return
        log.warn(
            "a keeper ended without a word",
            pid=keeper.state.pid,
            mig=keeper.state.migration,
            role=keeper.state.role,
            phase=keeper.state.phase,
        )
        self._publish(api.ProcessChanged(self._info(keeper.state), gone=True))

    def _publish(self, event: api.Event) -> None:
        for notify in list(self._subscribers):
            notify(event)


def _named(node: Node) -> api.NodeName:
    return api.NodeName(node.number, node.name, node.address, list(node.aliases))
