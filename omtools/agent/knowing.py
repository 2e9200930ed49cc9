"""What this node knows of the others: its own figures once a second, told to a few, who tell it on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from random import SystemRandom

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.config import Configuration
from omtools.agent.gauge import INTERVAL, Gauge
from omtools.agent.peers import Peers
from omtools.cluster.gossip import Gossip, Outgoing
from omtools.cluster.map import Node
from omtools.cluster.vector import MB, UntrueError, Vector, decode, encode, hundredths
from omtools.errors import BadRequest, OmError

_PATIENCE = 3.0  # for a peer to take the news
_INTRODUCED = 1.0  # seconds, of the same when the agent starts
_FORGET_EVERY = 60.0
_BETWEEN = 0.2  # seconds at least between two rounds of decisions


class Knowing:
    """The gossip of one agent.

    Attributes:
        gossip: the state machine, with the table of what is known.
        sent_bytes: of gossip, so far.
    """

    def __init__(
        self,
        configuration: Configuration,
        peers: Peers,
        gauge: Gauge,
        counts: Callable[[], tuple[int, int, int]],
    ) -> None:
        """`counts` tells status bits, guests here and own processes away."""
        self._configuration = configuration
        self._peers = peers
        self._gauge = gauge
        self._counts = counts
        incarnation = time.time_ns() // 1_000_000  # should the clock have been set back, others tell
        self.gossip = Gossip(configuration.node.number, incarnation, SystemRandom())
        self.sent_bytes = 0
        self._others: list[int] = []
        self.renew()
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._waited_for: set[int] = set()
        self._forget_at = 0.0
        self._then: Callable[[], Awaitable[float | None]] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._deciding: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """The map changed."""
        numbers = self._configuration.map.nodes
        self.gossip.members = frozenset(numbers)
        self._others = [number for number in numbers if number != self._configuration.node.number]

    def start(self, then: Callable[[], Awaitable[float | None]]) -> None:
        """Measure and tell once a second from now on; `then` decides by what is known.

        It returns after how many seconds it wants to decide once more; None: not before the next second.
        """
        self._then = then
        self._tick()

    async def introduced(self) -> None:
        """Where one processor does all, wait until somebody has heard of this node, or cannot be reached.

        What the agent does next is work for that processor, and nobody waits for it as much.
        """
        if self._sending and len(os.sched_getaffinity(0)) == 1:
            await asyncio.wait(self._sending, timeout=_INTRODUCED, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Say goodbye, and tell nothing more."""
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        under_way = [*self._sending, *([self._deciding] if self._deciding is not None else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        goodbyes = (self._send(outgoing) for outgoing in self.gossip.leave(self._others))
        await asyncio.gather(*goodbyes)

    def measure(self) -> Vector:
        """This node's figures now."""
        status, guests, away = self._counts()
        memory, loads, util = self._gauge.memory(), self._gauge.loads, self._gauge.util()
        return self.gossip.measure(
            Vector(
                number=self._configuration.node.number,
                load_now=hundredths(loads.now),
                load_mean=hundredths(loads.mean),
                load_upper=hundredths(max(loads.upper, loads.now, loads.mean)),
                speed=max(self._gauge.speed, 1),
                cpus=max(self._gauge.cpus, 1),
                total_mb=memory.total // MB,
                free_mb=min(memory.free, memory.total) // MB,
                available_mb=min(memory.available, memory.total) // MB,
                util=util,
                pressure=100 - util,
                status=status,
                guests=min(guests, 65535),
                away=min(away, 65535),
            )
        )

    def hear(self, news: api.News, caller: Caller) -> api.Heard:
        """Take what a peer tells.

        Raises:
            BadRequest: it is not believed.
            NotAllowed: it is no peer, or another than it says.
        """
        caller.check_node("news")
        try:
            message = decode(news.data)
            caller.check_node("news", message.sender)
            answer = self.gossip.receive(time.monotonic(), message.sender, message)
        except UntrueError as error:
            raise BadRequest(why=str(error)) from None
        return api.Heard(encode(answer.message) if answer is not None else b"")

    def views(self) -> list[api.NodeView]:
        """All nodes of the map, as they are known here."""
        now = time.monotonic()
        return [self._view(node, now) for node in self._configuration.map.nodes.values()]

    def _view(self, node: Node, now: float) -> api.NodeView:
        state, view = self.gossip.state(now, node.number), self.gossip.view(now, node.number)
        if state is None or view is None:
            return api.NodeView(node.number, node.name, node.address)
        vector = view.vector
        return api.NodeView(
            number=node.number,
            name=node.name,
            address=node.address,
            state=state.value,
            age=round(view.age, 3),
            status=vector.status,
            load=vector.load_upper / 100,
            speed=vector.speed,
            cpus=vector.cpus,
            mem_total=vector.total_mb * MB,
            mem_free=vector.free_mb * MB,
            mem_available=vector.available_mb * MB,
            util=vector.util,
            guests=vector.guests,
            away=vector.away,
        )

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._tick)
        now = time.monotonic()
        self.measure()
        if now > self._forget_at:
            self._forget_at = now + _FORGET_EVERY
            self.gossip.forget(now)
        for outgoing in self.gossip.tick(now, self._others):
            if outgoing.target in self._waited_for:
                continue  # it has not taken the last news yet
            task = asyncio.get_running_loop().create_task(self._send(outgoing))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._begin_deciding()

    def _begin_deciding(self) -> None:
        if self._deciding is None or self._deciding.done():
            self._deciding = asyncio.get_running_loop().create_task(self._decide())

    async def _decide(self) -> None:
        if self._then is None:
            return
        try:
            seconds = await self._then()
        except Exception as error:
            log.failed("a round of decisions failed", error)
            return
        if self._again is not None:
            self._again.cancel()
        if seconds is not None and self._timer is not None:
            self._again = asyncio.get_running_loop().call_later(max(seconds, _BETWEEN), self._once_more)

    def _once_more(self) -> None:
        self.measure()
        self._begin_deciding()

    async def _send(self, outgoing: Outgoing) -> None:
        node = self._configuration.map.nodes.get(outgoing.target)
        if node is None:  # it has left the map meanwhile
            return
        self._waited_for.add(node.number)
        news = encode(outgoing.message)
        self.sent_bytes += len(news)
        try:
            heard = await self._peers.call(node, api.News(news), api.Heard, patience=_PATIENCE)
            if heard.data:
                self.gossip.receive(time.monotonic(), node.number, decode(heard.data))
        except OmError as error:
            log.debug("a peer did not take the news", peer=node.name, why=error)
        except UntrueError as error:
            log.warn("a peer is not believed", peer=node.name, why=error)
        finally:
            self._waited_for.discard(node.number)
