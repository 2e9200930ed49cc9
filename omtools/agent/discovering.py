"""omdiscd at work: announces this node, proves the others that are announced, tells the agent of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from omtools.agent import api, cluster_key, joining, keys, log, renewal
from omtools.agent.client import Client
from omtools.agent.config import DISCOVERED, Settings, read_discovered
from omtools.agent.joining import JoinServer
from omtools.agent.paths import SOCKET
from omtools.agent.peers import connect
from omtools.agent.waiting import Asked, WaitingList
from omtools.agent.wire import Wire
from omtools.cluster.discovery import Announcement, Known, Place, Roll
from omtools.cluster.map import Node
from omtools.errors import NoAgent, NotInCluster, OmError
from omtools.i18n import _
from omtools.linux.interfaces import address_of

_LOOK_S = 1.0
_RENEW_S = 3600.0  # between looks at this node's certificates
_RENEW_SOON_S = 30.0  # if they are to be renewed and were not
_AT_ONCE = 8  # proofs


class Discovering:
    """One node's part in discovery.

    Attributes:
        roll: who was proven.
    """

    def __init__(
        self, directory: Path, run: Path, settings: Settings, interfaces: list[str], ttl: int = 0
    ) -> None:
        """Read what this node is.

        Args:
            directory: the configuration directory.
            run: the run directory.
            settings: openmosix.config's.
            interfaces: their names; the first one's address is the node's, the others' are aliases.
            ttl: of the multicasts, 0: the usual; with one only the first interface is used.

        Raises:
            NotInCluster: it belongs to no cluster yet.
        """
        place, authority = cluster_key.membership(directory), cluster_key.public_key(directory)
        if place is None or authority is None:
            raise NotInCluster(why=_("this node belongs to no cluster yet"))
        self._directory, self._run, self._settings = directory, run, settings
        self._interfaces, self._ttl = interfaces, ttl
        self._place = place
        self._keys = keys.ensure_keys(directory, place.name)
        self.roll = Roll(cluster_key.fingerprint(authority), place.number, read_discovered(run))
        self._wire = Wire(self._heard, self.roll.left)
        keeps_key = (directory / cluster_key.PRIVATE).exists()
        self._join = JoinServer(WaitingList(directory)) if keeps_key else None
        self._renew_at = 0.0
        self._renewing = False
        self._addresses: list[str] = []
        self._untold = True
        self._proving: set[Place] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def run(self, ready: Callable[[], None]) -> None:
        """Go on until cancelled; `ready` is called once it announces.

        Raises:
            OSError: an interface cannot be used.
        """
        try:
            await self._begin(self._own_addresses())
            ready()
            while True:
                await self._look()
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._end()

    # -- the wire

    def _own_addresses(self) -> list[str]:
        return [address_of(interface) for interface in self._interfaces]

    async def _begin(self, addresses: list[str]) -> None:
        used = addresses[:1] if self._ttl else addresses
        if self._join is not None:
            await self._join.open(used)
        own = Announcement(
            self.roll.cluster,
            self._place.cluster,
            self._place.number,
            self._place.name,
            self._settings.port,
            self._join.port if self._join is not None else 0,
            tuple(addresses),
        )
        await self._wire.open(used, self._ttl, own)
        self._addresses = addresses
        log.info("this node is announced", number=own.number, name=own.name, at=" ".join(addresses))

    async def _end(self) -> None:
        await self._wire.close()
        if self._join is not None:
            await self._join.close()

    def _heard(self, service: str, one: Announcement) -> None:
        if self.roll.heard(service, one):
            log.debug("a node is announced", number=one.number, name=one.name, at=" ".join(one.addresses))

    # -- once a second

    async def _look(self) -> None:
        now = time.monotonic()
        await self._follow_addresses()
        for place in self.roll.to_prove(now):
            if place not in self._proving:
                self._proving.add(place)
                self._spawn(self._prove(place))
        if now >= self._renew_at and not self._renewing:
            self._renewing = True
            self._spawn(self._renew())
        if self._untold:
            self._untold = not await asyncio.to_thread(self._tell)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow_addresses(self) -> None:
        try:
            addresses = self._own_addresses()
        except OSError as error:
            log.debug("an interface has no address now", why=error)
            return
        if addresses != self._addresses:
            log.info("this node has another address", at=" ".join(addresses))
            await self._end()
            await self._begin(addresses)

    async def _prove(self, place: Place) -> None:
        try:
            known = self.roll.nodes.get(place.number)
            elsewhere = known is not None and known.address != place.address
            if elsewhere and known is not None and await self._is_there(_place_of(known)):
                # It answers where it was: whoever announces it elsewhere (a relay?) moves nothing.
                self.roll.failed(time.monotonic(), place)
            elif not await self._is_there(place):
                self.roll.failed(time.monotonic(), place)
            elif self.roll.proven(place):
                log.info("a node was found", number=place.number, name=place.name, address=place.address)
                self._save()
                self._untold = True
        finally:
            self._proving.discard(place)

    async def _is_there(self, place: Place) -> bool:
        """Whether that node's agent answers there with a certificate of this cluster for that number."""
        async with self._turn:
            try:
                link = await connect(
                    Node(place.number, place.name, place.address),
                    self._settings.port,
                    user=self._keys.user,
                    client_keys=[self._keys.client],
                    client_certificate=self._keys.client_certificate,
                    known_hosts=self._directory / keys.KNOWN_HOSTS,
                    patience=self._settings.connect_timeout,
                    who=api.Hello(api.VERSION, self._place.number, self._place.name),
                )
            except OmError as error:
                log.debug("a node is not where it is announced", number=place.number, why=error)
                return False
            hello = link.session.hello
            await link.close()
            return hello is not None and (hello.node, hello.name) == (place.number, place.name)

    async def _renew(self) -> None:
        """See that this node's certificates do not expire; the agent sees by itself that they are new."""
        try:
            self._renew_at = time.monotonic() + _RENEW_S
            expire = await asyncio.to_thread(renewal.own_until, self._directory)
            if not renewal.is_due(expire, time.time()) or await self._renewed():
                return
            self._renew_at = time.monotonic() + _RENEW_SOON_S
            if expire - time.time() < cluster_key.DAYS * cluster_key.DAY_S / 6:
                log.warn("nobody renews this node's certificates", until=renewal.day_of(expire))
        except OmError as error:
            log.warn("this node's certificates cannot be renewed", why=error)
        finally:
            self._renewing = False

    async def _renewed(self) -> bool:
        directory, done = self._directory, False
        if (directory / cluster_key.PRIVATE).exists():
            done = await asyncio.to_thread(renewal.renew_own, directory, self._keys, time.time())
        for address, port in [] if done else self.roll.holders():
            try:
                told = await joining.ask(address, port, self._asked())
                if told.given is not None and renewal.replace_own(directory, self._keys, told.given):
                    done = True
                    break
            except OmError as error:
                log.debug("new certificates were not got", address=address, why=error)
        if done:
            self._keys = keys.ensure_keys(directory, self._place.name)
            day = renewal.day_of(renewal.own_until(directory))
            log.info("this node's certificates were renewed", until=day)
        return done

    def _asked(self) -> Asked:
        host, client = (key.export_public_key().decode() for key in (self._keys.host, self._keys.client))
        return Asked(self.roll.cluster, self._place.name, self._place.number, host, client)

    # -- the agent

    def _save(self) -> None:
        text = msgspec.json.encode(list(self.roll.nodes.values())).decode()
        cluster_key.write(self._run / DISCOVERED, text, 0o644)

    def _tell(self) -> bool:
        """Tell the agent; one that does not run reads the file when it starts."""
        nodes = [
            api.NodeName(one.number, one.name, one.address, list(one.aliases))
            for one in self.roll.nodes.values()
        ]
        try:
            with Client(self._run / SOCKET, "omdiscd") as agent:
                agent.call(api.SetNodes(nodes), api.Done)
        except NoAgent:
            return True
        except OmError as error:
            log.warn("the agent did not take the map", why=error)
            return False
        return True


def _place_of(known: Known) -> Place:
    return Place(known.number, known.name, known.address, 0, known.aliases)


def number_by(address: str) -> int:
    """The number that the original would have given to that address: its last two bytes."""
    return int.from_bytes(ip_address(address.partition("%")[0]).packed[-2:], "big") or 1
