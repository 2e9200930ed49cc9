"""The agent of one node: what it is made of, what it answers, how it starts and ends."""

from __future__ import annotations

import asyncio
import os
import time
from typing import assert_never

from omtools import __version__
from omtools.agent import api, log
from omtools.agent.balancing import Balancing
from omtools.agent.callers import Caller
from omtools.agent.candidates import Candidates
from omtools.agent.changes import Changes
from omtools.agent.clearing import bring_tunnelled, send_home
from omtools.agent.config import Configuration
from omtools.agent.conversation import Notify
from omtools.agent.elsewhere import ask_elsewhere, elsewhere
from omtools.agent.engine import Engine, RealEngine
from omtools.agent.files import Files
from omtools.agent.gauge import Gauge
from omtools.agent.guests import Guests
from omtools.agent.inspecting import inspect
from omtools.agent.keepers import FINAL, Keeper, Keepers, allow
from omtools.agent.keys import Keys, ensure_keys
from omtools.agent.knowing import Knowing
from omtools.agent.limiting import Limiting
from omtools.agent.memo import Memo
from omtools.agent.migrations import Migrations
from omtools.agent.naming import named, node_list
from omtools.agent.paths import make_run_dir
from omtools.agent.peers import Peers
from omtools.agent.reconsidering import BALANCE, Reconsidering
from omtools.agent.relaying import Relays
from omtools.agent.renewal import Renewed
from omtools.agent.server import SshServer, UnixServer
from omtools.agent.telling import Telling
from omtools.agent.tuning import Tuning, changes
from omtools.agent.twins import Twins
from omtools.agent.watching import Watching
from omtools.agent.wishes import Wishes
from omtools.cluster.balance import Proposal, admit
from omtools.cluster.constraints import REASONS
from omtools.cluster.gossip import State as Liveness
from omtools.cluster.load import BLOCK, CONFIGURED, LSTAY, NOMFS, QUIET, STAY, UP
from omtools.cluster.map import Node
from omtools.errors import NodeRefuses, OmError
from omtools.i18n import _
from omtools.migration.counts import by_node
from omtools.migration.orders import State
from omtools.migration.reach import Access, Export, Reach
from omtools.omfs.exports import parse_exports
from omtools.omfs.orders import Way

_BITS: dict[api.SwitchName, int] = {"stay": STAY, "lstay": LSTAY, "quiet": QUIET}
_INFO_PATIENCE = 5.0  # for another node to say how it does


class Agent:
    """One node's agent. `start` returns when it serves, `stop` when it does not any more."""

    def __init__(self, configuration: Configuration, engine: Engine | None = None) -> None:
        make_run_dir(configuration.run)
        self.configuration = configuration
        self.engine: Engine = engine or RealEngine()
        self.keys: Keys = ensure_keys(configuration.directory, configuration.node.name)
        self.gauge = Gauge(configuration.run, configuration.settings.speed, configuration.settings.memory)
        self.keepers = Keepers(configuration.run, self._on_state, self._on_gone)
        self.gauge.passing = self.keepers.passing
        self.peers = Peers(configuration, self.keys)
        self._memo = Memo(configuration.run)
        candidates = Candidates(self._memo, configuration.settings.everything, self.node.number)
        candidates.share = self.gauge.share
        self.wishes = Wishes(configuration, self._memo, self.keepers, self.peers, candidates)
        twins = Twins()
        self.guests = Guests(
            configuration, self.engine, self.keepers, self.gauge, self._reach, self._access, self._judge,
            self.wishes.arriving, twins,
        )  # fmt: skip
        self.migrations = Migrations(
            configuration, self.engine, self.keepers, self.guests, self.peers, self._leaving,
            self.wishes.leaving, twins,
        )  # fmt: skip
        self.files = Files(configuration, self.peers, self.engine)
        self.knowing = Knowing(configuration, self.peers, self.gauge, self._counts)
        self.balancing = Balancing(
            self.knowing, candidates, self.keepers, self.migrations, self.gauge, self._publish,
            self.files.uses,
        )  # fmt: skip
        self._reconsidering = Reconsidering(
            configuration, candidates, self.keepers, self.gauge, self.balancing, self.migrations, self.peers
        )
        self.telling = Telling(configuration, self.knowing, self._report)
        self.limiting = Limiting(self.keepers, self.gauge)
        self.tuning = Tuning(configuration)
        self.balancing.costs = self.tuning.costs()
        self._changes = Changes()
        self._renewed = Renewed(configuration.directory, self.node.name, self._use)
        self._subscribers: list[Notify] = []
        self.relays = Relays(self.peers)
        self._watching = Watching(configuration, self.keepers, self.peers)
        self._work: set[asyncio.Task[api.Moved]] = set()
        self._unix = UnixServer(configuration.run, self)
        self._ssh = SshServer(
            configuration.directory,
            self.keys,
            self,
            self._permits,
            self._own_files,
            silence=configuration.settings.silence,
        )

    @property
    def node(self) -> Node:
        """This node."""
        return self.configuration.node

    @property
    def blocked(self) -> bool:
        """Whether guests are refused."""
        return self.switched("block")

    @property
    def status(self) -> int:
        """This node's status bits."""
        bits = CONFIGURED | UP | (BLOCK if self.blocked else 0) | (0 if self.switched("mfs") else NOMFS)
        return bits | sum(bit for name, bit in _BITS.items() if self.switched(name))

    def switched(self, name: api.SwitchName) -> bool:
        """How a switch stands: as somebody has set it, else as the configuration says."""
        own = self.configuration.settings
        configured = {"block": own.block, "mfs": own.mfs, "dfsa": own.dfsa, "stay": not own.migrate}
        return self._memo.switch(name, configured.get(name, False))

    def _judge(self, wanted: api.PrepareGuest, arriving: float, promised: int) -> str:
        """Why a process that another node's balancer offers is not welcome, "" if it is."""
        own = self.knowing.measure()
        size, least = wanted.resident_bytes, wanted.least_rate
        offer = Proposal(wanted.pid, self.node.number, 0.0, 0.0, 0.0, wanted.runnable, size, least)
        reason = admit(own, own.runnable_now, arriving, offer, promised)
        return "" if reason is None else _(REASONS[reason])

    def _permits(self, host: str, port: int) -> bool:
        return self.guests.permits(host, port) or self.files.permits(port)

    async def _own_files(self, caller: Caller) -> Way:
        return await self.files.way_here(caller, refused=not self.switched("mfs"))

    def _leaving(self) -> tuple[bool, Reach]:
        """For a process that leaves: whether its files may be opened there, and where they all are here."""
        return self.switched("dfsa"), Reach(self.files.mounted, names=self.configuration.map.numbers)

    def _reach(self, home_mount: str) -> Reach:
        """How a guest's files are reached from here, if its switches allow that."""
        entries = parse_exports(self.configuration.exports).entries
        exports = [Export(os.fsdecode(entry.path), not entry.read_only) for entry in entries]
        return Reach(home_mount, self.files.mounted, self.configuration.map.numbers, exports)

    def _access(self) -> Access:
        return Access(self.switched("dfsa"), self.switched("mfs"))

    # -- life

    async def start(self) -> None:
        """Find the keepers of before, then serve.

        Raises:
            AgentRunning: there is an agent already.
            BadConfiguration: it cannot listen.
        """
        await self._unix.open()
        try:
            await self.keepers.rescan()
            await self._ssh.open(self.configuration.listen, self.configuration.settings.port)
            await self.telling.start()
            self.gauge.start()
            self.knowing.start(self._round)
            await self.knowing.introduced()
            await self.engine.ensure_template(self.configuration.run)
            await self._unix.serve()  # not before: an answer means that this node takes part
        except BaseException:
            self.gauge.stop()
            await self.knowing.stop()
            await self._unix.close()
            await self._ssh.close()
            await self.keepers.close()
            raise
        await self.files.start()
        log.info(
            "the agent serves", name=self.node.name, address=self.configuration.listen,
            port=self.configuration.settings.port, pid=os.getpid(), nodes=len(self.configuration.map),
        )  # fmt: skip

    async def stop(self) -> None:
        """End. Keepers live on; processes whose link goes through this agent come home first."""
        self.gauge.stop()
        await self.knowing.stop()
        await self.balancing.stop()
        await self._unix.close()
        await self.relays.close()
        await self.telling.server.close()
        await bring_tunnelled([*self.migrations.tunnelled(), *self.guests.tunnelled()])
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._ssh.close()
        await self.files.stop(leave=any(not keeper.final for keeper in self.keepers.all()))
        await self.migrations.close()
        await self.peers.close()
        await self.keepers.close()
        await self.engine.end_template(self.configuration.run)
        log.info("the agent ended", name=self.node.name)

    # -- what conversations ask

    def hello(self) -> api.Hello:
        """How the agent introduces itself."""
        return api.Hello(api.VERSION, self.node.number, self.node.name)

    async def handle(  # noqa: PLR0911, PLR0912 - one line for each request there is
        self, request: api.Request, caller: Caller, notify: Notify
    ) -> api.Result:
        """Do what is asked; raises OmError."""
        if isinstance(request, api.Subscribe):
            return await self._subscribe(request, caller, notify)
        if (other := self._other(request)) is not None:
            return await ask_elsewhere(self.peers, other, request, caller, notify)
        match request:
            case api.Migrate() | api.Reconsider():
                return await self._migrate(request, caller)
            case api.Processes():
                return await self._processes(request, caller)
            case api.Inspect():
                return await inspect(request, self.node.number, self.keepers, self._memo, self.engine)
            case api.Calls() | api.GuestCalls():
                return await self._watching.handle(request, caller)
            case api.NodeInfo():
                return await self._node_info(request)
            case api.Whois():
                return named(self._find(request.node))
            case api.Nodes():
                return node_list(self.configuration)
            case api.Switch():
                return await self._switch(request, caller)
            case (
                api.Lock() | api.SetProcess() | api.GetProcess() | api.GuestSettings()
                | api.SetDecay() | api.GetDecay()
            ):  # fmt: skip
                return await self.wishes.handle(request, caller)
            case api.PrepareGuest():
                self._check_limits(caller)
                return await self.guests.prepare(request, caller, self.blocked)
            case api.PrepareFiles():
                return await self.files.prepare(request, caller, refused=not self.switched("mfs"))
            case api.OpenFiles():
                return await self.files.open(request, caller)
            case api.News():
                return self.knowing.hear(request, caller)
            case api.SetNodes():
                return await self._set_nodes(request, caller)
            case api.SetSpeed():
                return self._set_speed(request, caller)
            case api.Expel() | api.Bring():
                return await self._clear(isinstance(request, api.Expel), caller, notify)
            case api.Tune():
                return self._tune(request, caller)
            case api.Views():
                return api.NodeViews(self.node.number, self.knowing.views())
        assert_never(request)

    def forget(self, notify: Notify) -> None:
        """That subscriber is gone."""
        if notify in self._subscribers:
            self._subscribers.remove(notify)
        self.relays.forget(notify)

    async def _subscribe(self, request: api.Subscribe, caller: Caller, notify: Notify) -> api.Done:
        other = self._find("" if request.all else request.node)
        if other != self.node:
            await self.relays.follow(other, caller, notify)
            return api.Done()
        if request.all:
            self.relays.follow_all(caller, notify, self._up())
        self._subscribers.append(notify)
        return api.Done()

    def _up(self) -> list[Node]:
        """The other nodes that are up, as far as it is known here."""
        nodes = self.configuration.map.nodes
        known = self.knowing.gossip.nodes(time.monotonic())
        numbers = (number for number, state, _view in known if state is Liveness.UP)
        return [nodes[number] for number in numbers if number in nodes and number != self.node.number]

    async def _migrate(self, request: api.Migrate | api.Reconsider, caller: Caller) -> api.Moved:
        if isinstance(request, api.Reconsider):
            work = self._reconsidering.of_peer(request, caller)
        elif request.to == BALANCE:
            work = self._reconsidering.migrate(request.pid, caller)
        else:
            work = self.migrations.migrate(request.pid, request.to, caller)
        # Shielded: when who asked goes away, the move goes on and is still followed and logged.
        task = asyncio.get_running_loop().create_task(work)
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
            self._info(keeper, request.files)
            for keeper in self.keepers.all()
            if keeper.spoken.is_set() and not keeper.final
        ]
        mine = [info for info in found if request.all or caller.uid in (0, info.uid)]
        mine.sort(key=lambda info: info.local_pid)
        return api.ProcessList(self.node.number, mine, self._memo.locks())

    def _info(self, keeper: Keeper, files: bool = False) -> api.ProcessInfo:
        state = keeper.state
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
            locked=bool(self.wishes.of_keeper(keeper).locked),
            bytes=figures.bytes_moved,
            frozen_ms=figures.frozen_ms,
            total_ms=figures.total_ms,
            calls_forwarded=figures.calls_forwarded,
            moves=figures.moves,
            sent=figures.sent,
            to_send=figures.to_send,
            target=state.target,
            reason=state.reason,
            io=list(by_node(state.files).values()),
            dfsa_bytes=figures.dfsa_bytes,
            files=state.files if files else [],
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

    def _counts(self) -> tuple[int, int, int]:
        """Status bits, guests here, own processes away."""
        roles = [keeper.state.role for keeper in self.keepers.all() if not keeper.final]
        return self.status, roles.count("guest"), roles.count("deputy")

    def _report(self) -> api.NodeReport:
        memory = self.gauge.memory()
        _status, guests, away = self._counts()
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
            guests=guests,
            away=away,
            mount=self.files.mounted,
            dfsa=self.switched("dfsa"),
            release=self.guests.platform.release,
            version=__version__,
        )

    async def _set_nodes(self, request: api.SetNodes, caller: Caller) -> api.Done:
        caller.check_master("set_nodes")
        others = [Node(one.number, one.name, one.address, tuple(one.aliases)) for one in request.nodes]
        self.peers.moved(self.configuration.map.replace(others, self.node))
        self.knowing.renew()
        await self.files.renew()
        log.info("the map changed", nodes=len(self.configuration.map))
        self._publish(api.MapChanged(self.node.number, len(self.configuration.map)))
        return api.Done()

    def _find(self, word: str) -> Node:
        return self.configuration.map.find(word) if word else self.node

    async def _switch(self, request: api.Switch, caller: Caller) -> api.Done:
        caller.check_master(("" if request.on else "no") + request.name)
        await self._set_switch(request.name, request.on, caller)
        return api.Done()

    async def _set_switch(self, name: api.SwitchName, on: bool, caller: Caller) -> None:
        self._memo.set_switch(name, on)
        log.info("a switch was set", switch=name, on=on, by=caller.where, uid=caller.uid)
        if name in {"dfsa", "mfs"}:
            allow(self.keepers.all(), self._access())
        if not self.switched("mfs"):
            await self.files.stop_serving()
        self._publish(api.SwitchChanged(self.node.number, self.status))

    def _set_speed(self, request: api.SetSpeed, caller: Caller) -> api.Done:
        caller.check_master("setspeed")
        self.gauge.set_speed(request.speed)
        log.info("a speed was set", speed=self.gauge.speed, by=caller.where, uid=caller.uid)
        return api.Done()

    def _check_limits(self, caller: Caller) -> None:
        caller.check_node("prepare_guest")
        if why := self.limiting.full(self.tuning.limits, self.gauge.loads.upper, self.guests.expected):
            raise NodeRefuses(node=self.node.name, why=why)

    def _use(self, own: Keys) -> None:
        self.keys = own
        self.peers.use(own)
        self._ssh.use(own)

    async def _round(self) -> float | None:
        self._renewed.look()
        self.limiting.look()
        self.relays.look(self._up)
        return await self.balancing.round()

    def _tune(self, request: api.Tune, caller: Caller) -> api.Tuned:
        if changes(request):
            caller.check_master("tune")
            self.tuning.change(request, self.balancing)
            log.info("something was tuned", by=caller.where, uid=caller.uid)
        return self.tuning.tuned(self.balancing.costs)

    def _other(self, request: api.Request) -> Node | None:
        """The other node that is to do that, if it is not for this one."""
        word = elsewhere(request)
        if not word or (node := self._find(word)) == self.node:
            return None
        return node

    async def _clear(self, expel: bool, caller: Caller, notify: Notify) -> api.Cleared:
        caller.check_master("expel" if expel else "bring")
        await self._set_switch("block" if expel else "lstay", True, caller)
        role = "guest" if expel else "deputy"
        return await send_home(self.keepers.all(), role, caller, self.migrations.migrate, notify)

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
        if self._changes.are_news(keeper.path, info := self._info(keeper), time.monotonic()):
            self._publish(api.ProcessChanged(info, gone=keeper.final))

    def _on_gone(self, keeper: Keeper) -> None:
        if keeper.state.role == "deputy":
            self._memo.add_moves(keeper.state.local_pid, keeper.state.statistics.moves)
        self._changes.forget(keeper.path)
        self.guests.gone(keeper)
        self.migrations.gone(keeper)
        self.wishes.gone(keeper)
        # It was killed, or it had become a user who may not remove anything here.
        keeper.path.unlink(missing_ok=True)
        if keeper.state.phase in FINAL:
            return
        state = keeper.state
        log.warn(
            "a keeper ended without a word", pid=state.pid, mig=state.migration, role=state.role,
            phase=state.phase,
        )  # fmt: skip
        self._publish(api.ProcessChanged(self._info(keeper), gone=True))

    def _publish(self, event: api.Event) -> None:
        self.telling.hear(event)
        for notify in list(self._subscribers):
            notify(event)
