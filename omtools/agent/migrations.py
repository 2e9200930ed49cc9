"""The home's side of a migration: who may, where to, over what, and has it arrived."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from omtools.agent import api, log
from omtools.agent.callers import Caller, name_of
from omtools.agent.certificates import Identity, make_identity
from omtools.agent.config import Configuration
from omtools.agent.engine import Engine
from omtools.agent.following import Goal, arrival
from omtools.agent.guests import Guests
from omtools.agent.keepers import Keeper, Keepers
from omtools.agent.peers import Peers
from omtools.agent.tunnel import Tunnel, reachable
from omtools.agent.twins import Twins
from omtools.cluster.balance import Proposal
from omtools.cluster.map import Node
from omtools.cluster.process_settings import ProcessSettings
from omtools.errors import (
    AgentVersion,
    AtHomeAlready,
    CannotMigrate,
    HostKeyWrong,
    KeyNotAuthorised,
    MaskForbids,
    MigrationRunning,
    NodeDown,
    ProcessEnded,
    ThereAlready,
)
from omtools.i18n import _
from omtools.image.twins import Twin
from omtools.migration.orders import Bring, Credentials, DeputyOrder, Endpoint, Hop, State
from omtools.migration.reach import Reach

HOME = "home"
_MIGRATE_PATIENCE = 3600.0  # for another agent's migration: it follows it itself, stage by stage


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A guest's keeper waits on the target, and a way leads to it."""

    endpoint: Endpoint
    credentials: Credentials
    tunnel: Tunnel | None
    twins: list[Twin]


@dataclass(frozen=True, slots=True)
class _Mover:
    """A process about to go, as the target is told of it."""

    migration: str
    pid: int
    uid: int
    gid: int
    resident_bytes: int
    leg: int = 0


class Migrations:
    """Moves this node's processes, and sends guests home."""

    def __init__(  # noqa: PLR0917 - the agent's parts
        self,
        configuration: Configuration,
        engine: Engine,
        keepers: Keepers,
        guests: Guests,
        peers: Peers,
        files: Callable[[], tuple[bool, Reach]],
        settings: Callable[[int], ProcessSettings],
        twins: Twins,
    ) -> None:
        """What the agent has to say.

        `files` tells if a process's files may be opened where it goes, and where all nodes' are at home;
        `settings` what the owner of a process wants.
        """
        self._configuration = configuration
        self._engine = engine
        self._keepers = keepers
        self._guests = guests
        self._peers = peers
        self._files = files
        self._settings = settings
        self._twins = twins
        self._moving: set[int] = set()
        self._tunnels: dict[str, list[Tunnel]] = {}  # by migration
        self._gids: dict[str, int] = {}  # by migration
        self._closing: set[asyncio.Task[None]] = set()

    async def migrate(
        self, pid: int, to: str, caller: Caller, offer: Proposal | None = None
    ) -> api.Moved:
        """Move the process with that pid on this node to where it is wanted; returns when it is there.

        Args:
            pid: a local one: of a process at home here, away from here, or of a guest.
            to: a node's number, name or address, or "home".
            caller: who wants it.
            offer: the balancer's, for the target to judge by its own figures.

        Raises:
            OmError: it does not move; the error says why and where it runs.
        """
        begun = asyncio.get_running_loop().time()
        with self._alone(pid), log.about(**self._named(pid)):
            if (keeper := self._keepers.deputy_of(pid)) is not None:
                moved = await self._away(keeper, pid, to, caller)
            elif (keeper := self._keepers.guest_of(pid)) is not None:
                moved = await self._guest(keeper, pid, to, caller)
            else:
                moved = await self._leave(pid, to, caller, offer)
        # The keeper's own count leaves out what agents did before it lived.
        total = (asyncio.get_running_loop().time() - begun) * 1000
        return msgspec.structs.replace(moved, pid=pid, total_ms=round(total, 3))

    def tunnelled(self) -> list[Keeper]:
        """Keepers of processes whose link runs through this agent: it must not end under them."""
        return [
            keeper
            for keeper in self._keepers.all()
            if keeper.state.role == "deputy" and self._tunnels.get(keeper.state.migration)
        ]

    def gone(self, keeper: Keeper) -> None:
        """That keeper is no more: nothing needs to lead to its guest."""
        if keeper.state.role == "deputy":
            self._close_later(self._tunnels.pop(keeper.state.migration, []))
            self._gids.pop(keeper.state.migration, None)

    async def close(self) -> None:
        """Cut all tunnels."""
        for tunnels in list(self._tunnels.values()):
            for tunnel in tunnels:
                await tunnel.close()
        self._tunnels.clear()
        await asyncio.gather(*self._closing)

    # -- three situations

    async def _leave(
        self, pid: int, to: str, caller: Caller, offer: Proposal | None = None
    ) -> api.Moved:
        """A process that is at home goes away."""
        own = self._configuration.node
        self._check_ordinary(pid)
        try:
            surveyed = await asyncio.to_thread(self._engine.survey, pid)
        except CannotMigrate:
            if self._target(to, own) == own:  # it stays there, and that is what is wanted
                raise AtHomeAlready(pid=pid) from None
            raise
        caller.check_process(pid, surveyed.uid)
        target = self._target(to, own)
        if target == own:
            raise AtHomeAlready(pid=pid)
        migration = f"{own.number}-{pid}-{secrets.token_hex(6)}"
        mover = _Mover(migration, pid, surveyed.uid, surveyed.gid, surveyed.resident_bytes)
        log.info(
            "a process is to move", pid=pid, mig=migration, to=target.name, by=caller.where, uid=caller.uid
        )
        with log.about(mig=migration):
            return await self._leave_with(mover, target, offer)

    async def _leave_with(self, mover: _Mover, target: Node, offer: Proposal | None) -> api.Moved:
        own, pid, migration = self._configuration.node, mover.pid, mover.migration
        prepared = await self._prepare(mover, target, offer)
        self._gids[migration] = mover.gid
        try:
            state = await self._launch(mover, target, prepared)
        except BaseException as error:
            log.info("a process stayed", pid=pid, mig=migration, to=target.name, why=error)
            if self._keepers.deputy_of(pid) is None:
                self._close_later(self._tunnels.pop(migration, []))
                self._gids.pop(migration, None)
            raise
        return self._told(state, pid, own.number, target.number)

    async def _launch(self, mover: _Mover, target: Node, prepared: _Prepared) -> State:
        own = self._configuration.node
        control = self._keepers.path("deputy", mover.migration)
        dfsa, files = self._files()
        order = DeputyOrder(
            migration=mover.migration,
            pid=mover.pid,
            uid=mover.uid,
            gid=mover.gid,
            home=own.number,
            target=target.number,
            endpoint=prepared.endpoint,
            credentials=prepared.credentials,
            control=str(control),
            debug=self._configuration.debug,
            dfsa=dfsa,
            files=files,
            silence=self._configuration.settings.silence,
            twins=prepared.twins,
        )
        await self._engine.launch(self._configuration.run, order)
        keeper = await self._keepers.adopt(order, own.name)
        goal = Goal(mover.pid, own.number, target.number, own.number, target.name, mover.resident_bytes)
        with keeper.follow() as followed:
            return await arrival(goal, followed, keeper.state)

    async def _away(self, keeper: Keeper, pid: int, to: str, caller: Caller) -> api.Moved:
        """A process whose home is here and that is away comes home, or goes on to a third node."""
        own = self._configuration.node
        state = keeper.state
        caller.check_process(pid, state.uid)
        target = self._target(to, own)
        if state.phase != "away":
            raise MigrationRunning(pid=pid)
        if target.number == state.node:
            raise ThereAlready(pid=pid, node=target.name)
        source, size = state.node, _resident(pid, state)
        goal = Goal(pid, source, target.number, own.number, target.name, size)
        if target == own:
            return await self._call_home(keeper, goal)
        mover = _Mover(
            state.migration, pid, state.uid, self._gid(state), size, leg=1 + secrets.randbelow(1 << 24)
        )
        prepared = await self._prepare(mover, target)
        try:
            with keeper.follow() as followed:
                keeper.tell(Hop(target.number, prepared.endpoint, prepared.credentials, prepared.twins))
                arrived = await arrival(goal, followed)
        except BaseException:
            self._drop_tunnel(state.migration, prepared.tunnel)
            raise
        # Only now: until the commit the process still ran at the other end of the old one.
        for tunnel in list(self._tunnels.get(state.migration, [])):
            if tunnel is not prepared.tunnel:
                self._drop_tunnel(state.migration, tunnel)
        return self._told(arrived, pid, source, target.number)

    async def _guest(self, keeper: Keeper, pid: int, to: str, caller: Caller) -> api.Moved:
        """A guest is sent home; to any other node its own home moves it."""
        state = keeper.state
        caller.check_process(pid, state.uid)
        if state.phase != "away":
            raise MigrationRunning(pid=pid)
        home = self._configuration.map.number(state.home)
        target = self._target(to, home)
        if target == self._configuration.node:
            raise ThereAlready(pid=pid, node=target.name)
        try:
            return await self._peers.call(
                home,
                api.Migrate(state.pid, str(target.number)),
                api.Moved,
                uid=caller.uid,
                patience=_MIGRATE_PATIENCE,
            )
        except (NodeDown, HostKeyWrong, KeyNotAuthorised, AgentVersion):
            if target != home:
                raise
        # A node can always send a guest home: the keepers have their own link. Only the figures are lost.
        goal = Goal(pid, state.node, home.number, home.number, home.name, _resident(pid, state))
        return await self._call_home(keeper, goal)

    async def _call_home(self, keeper: Keeper, goal: Goal) -> api.Moved:
        with keeper.follow() as followed:
            keeper.tell(Bring())
            state = await arrival(goal, followed)
        return self._told(state, goal.pid, goal.source, goal.home)

    # -- the way there

    async def _prepare(self, mover: _Mover, target: Node, offer: Proposal | None = None) -> _Prepared:
        """Have the target make ready, and find a way to the guest's keeper."""
        settings = self._settings(mover.pid)
        if not settings.mask.permits(target.number):
            raise MaskForbids(pid=mover.pid, node=target.name)
        link = self._configuration.settings.link
        own = make_identity(f"openMosix {mover.migration} deputy")
        offers, twins = await asyncio.to_thread(self._twins.of_process, mover.pid, mover.uid)
        wanted = api.PrepareGuest(
            migration=mover.migration,
            pid=mover.pid,
            uid=mover.uid,
            user=name_of(mover.uid),
            gid=mover.gid,
            home=self._configuration.node.number,
            hostname=socket.gethostname(),
            platform=self._guests.platform,
            resident_bytes=mover.resident_bytes,
            certificate=own.certificate,
            link=link,
            leg=mover.leg,
            mount=self._files()[1].home_mount,
            runnable=offer.runnable if offer is not None else 0.0,
            least_rate=offer.least_rate if offer is not None else 0.0,
            settings=settings,
            files=offers,
        )
        ready = await self._peers.call(target, wanted, api.GuestReady)
        prepared = await self._way(mover, target, ready, own)
        return replace(prepared, twins=[twins[at] for at in ready.files if 0 <= at < len(twins)])

    async def _way(self, mover: _Mover, target: Node, ready: api.GuestReady, own: Identity) -> _Prepared:
        link = self._configuration.settings.link
        credentials = Credentials(own.certificate, own.key, ready.certificate)
        if link == "direct" or (link == "auto" and await reachable(target.address, ready.port)):
            return _Prepared(Endpoint(target.address, ready.port), credentials, None, [])
        path = self._configuration.run / "tunnels" / f"{mover.migration}.{mover.leg}.sock"
        tunnel = Tunnel(path, await self._peers.link(target), ready.address or target.address, ready.port)
        await tunnel.open(mover.uid)
        self._tunnels.setdefault(mover.migration, []).append(tunnel)
        log.info(
            "the link goes through SSH", pid=mover.pid, mig=mover.migration, to=target.name, setting=link
        )
        return _Prepared(
            Endpoint(ready.address or target.address, ready.port, str(path)), credentials, tunnel, []
        )

    def _drop_tunnel(self, migration: str, tunnel: Tunnel | None) -> None:
        if tunnel is None:
            return
        tunnels = self._tunnels.get(migration, [])
        if tunnel in tunnels:
            tunnels.remove(tunnel)
        if not tunnels:
            self._tunnels.pop(migration, None)
        self._close_later([tunnel])

    def _close_later(self, tunnels: list[Tunnel]) -> None:
        for tunnel in tunnels:
            task = asyncio.get_running_loop().create_task(tunnel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # -- small things

    def _named(self, pid: int) -> dict[str, object]:
        """What every line of the log about a process with that local pid says."""
        keeper = self._keepers.deputy_of(pid) or self._keepers.guest_of(pid)
        if keeper is None:
            return {"pid": pid}
        return {"pid": keeper.state.pid, "mig": keeper.state.migration}

    @contextmanager
    def _alone(self, pid: int) -> Iterator[None]:
        """One request per process at a time."""
        if pid in self._moving:
            raise MigrationRunning(pid=pid)
        self._moving.add(pid)
        try:
            yield
        finally:
            self._moving.discard(pid)

    def _target(self, to: str, home: Node) -> Node:
        return home if to == HOME else self._configuration.map.find(to)

    def _gid(self, state: State) -> int:
        """The group of a process that is away; after a restart of the agent, its deputy still has it."""
        if (known := self._gids.get(state.migration)) is not None:
            return known
        try:
            return os.stat(f"/proc/{state.local_pid}").st_gid
        except OSError:
            raise ProcessEnded(pid=state.pid) from None

    def _check_ordinary(self, pid: int) -> None:
        """Refuse to move what does the moving: it would freeze the one who waits for it."""
        if pid == os.getpid() or any(keeper.state.keeper == pid for keeper in self._keepers.all()):
            raise CannotMigrate(pid=pid, reason=_("it belongs to openMosix itself"))

    def _told(self, state: State, pid: int, source: int, target: int) -> api.Moved:
        figures = state.statistics
        speed = figures.bytes_moved / figures.frozen_ms / 1000 if figures.frozen_ms else 0.0
        log.info(
            "a process moved",
            pid=pid,
            mig=state.migration,
            source=source,
            target=target,
            bytes=figures.bytes_moved,
            frozen_ms=round(figures.frozen_ms, 1),
        )
        return api.Moved(
            pid, source, target, figures.bytes_moved, round(figures.frozen_ms, 3), mb_per_s=round(speed, 1)
        )


def _resident(pid: int, state: State) -> int:
    """Memory of a process that is away, at a guess: what travelled the last time.

    Args:
        pid: a local one; a guest's own memory is the better answer.
        state: its keeper's word.
    """
    if state.role == "guest":
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            pass
    return state.statistics.bytes_moved
