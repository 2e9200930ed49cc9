"""What happens on other nodes, for those who subscribed here: each node is followed once, for all of them.

Only people are served: an agent tells its peers of its own node alone, so nothing goes in circles.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.conversation import Notify
from omtools.agent.peers import Peers
from omtools.cluster.map import Node
from omtools.errors import NodeDown, OmError, TooManyFollowed
from omtools.i18n import _

MOST = 64  # nodes that are followed at a time; more of them take turns
TURN_S = 30.0  # that a node is followed at least, while others wait for their turn
_AGAIN_S = 5.0  # until a node that could not be followed is tried again
_PATIENCE = 10.0  # for a node's agent to say that it will tell


@dataclass(eq=False)
class _Relay:
    """One node that is followed.

    Attributes:
        node: which.
        since: from when on, seconds of the monotonic clock.
        named: those who asked for this node.
        opening: how it begins.
        stop: tells the node that it is enough, once it has begun.
    """

    node: Node
    since: float
    named: list[Notify] = field(default_factory=list)
    opening: asyncio.Task[None] | None = None
    stop: Callable[[], None] | None = None


def next_turns(
    up: Iterable[int],
    followed: Mapping[int, float],
    before: Mapping[int, float],
    now: float,
    most: int = MOST,
) -> tuple[list[int], list[int]]:
    """Who is followed from now on, and who not any more, for those who want to hear of all.

    Args:
        up: numbers of the nodes that are up.
        followed: since when which nodes are followed.
        before: when nodes that are not followed were tried or followed last.
        now: seconds of the same clock.
        most: nodes that may be followed at a time.

    Returns:
        Nodes to begin with, the one that was waited for longest first; nodes to end with.
    """
    ready = [number for number in up if number not in followed and now - before.get(number, -1e9) >= _AGAIN_S]
    waiting = sorted(ready, key=lambda number: before.get(number, -1e9))
    free = most - len(followed)
    missing = max(0, len(waiting) - free)
    done = sorted((since, number) for number, since in followed.items() if now - since >= TURN_S)
    ending = [number for _since, number in done[:missing]]
    return waiting[: free + len(ending)], ending


class Relays:
    """The nodes that this agent follows for its subscribers."""

    def __init__(self, peers: Peers) -> None:
        """Nobody is followed yet."""
        self._peers = peers
        self._relays: dict[int, _Relay] = {}
        self._all: list[Notify] = []
        self._before: dict[int, float] = {}

    @property
    def followed(self) -> list[int]:
        """The numbers of the nodes that tell this one what happens there."""
        return [number for number, relay in self._relays.items() if relay.stop is not None]

    async def follow(self, node: Node, caller: Caller, notify: Notify) -> None:
        """Tell somebody of one node, until it is lost; that is told too.

        Raises:
            NotAllowed: it is a peer that asks; nobody asks round corners.
            TooManyFollowed: so many others are followed.
            OmError: the node does not answer.
        """
        caller.check_user("subscribe")
        relay = self._relays.get(node.number)
        if relay is None:
            if len(self._relays) >= MOST:
                raise TooManyFollowed(node=node.name, n=MOST)
            relay = self._begin(node)
        elif relay.stop is not None:
            notify(api.Followed(node.number, on=True))
        relay.named.append(notify)
        assert relay.opening is not None
        try:
            await asyncio.shield(relay.opening)
        except BaseException:
            self.forget(notify)
            raise

    def follow_all(self, caller: Caller, notify: Notify, up: list[Node]) -> None:
        """Tell somebody of all nodes that are up, from now on. Raises NotAllowed, as `follow`."""
        caller.check_user("subscribe")
        for number in self.followed:
            notify(api.Followed(number, on=True))
        self._all.append(notify)
        self.look(lambda: up)

    def forget(self, notify: Notify) -> None:
        """That subscriber wants no more."""
        if notify in self._all:
            self._all.remove(notify)
        for relay in list(self._relays.values()):
            if notify in relay.named:
                relay.named.remove(notify)
            if not relay.named and not self._all:
                self._end(relay)

    def look(self, up: Callable[[], list[Node]]) -> None:
        """Once a second: whom to follow for those who want to hear of all; `up`: the others that are up."""
        if not self._all:
            return
        now, nodes = time.monotonic(), {node.number: node for node in up()}
        followed = {number: relay.since for number, relay in self._relays.items()}
        # Whoever was asked for by name is not left because others wait.
        free = {n: now if self._relays[n].named else since for n, since in followed.items()}
        begin, end = next_turns(nodes, free, self._before, now)
        for number in end:
            self._end(self._relays[number])
        for number in begin:
            self._begin(nodes[number])

    async def close(self) -> None:
        """Follow nobody any more."""
        relays = list(self._relays.values())
        for relay in relays:
            self._end(relay)
        under_way = [relay.opening for relay in relays if relay.opening is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _begin(self, node: Node) -> _Relay:
        relay = self._relays[node.number] = _Relay(node, time.monotonic())
        relay.opening = asyncio.get_running_loop().create_task(self._open(relay))
        relay.opening.add_done_callback(_seen)
        return relay

    async def _open(self, relay: _Relay) -> None:
        node = relay.node
        try:
            async with asyncio.timeout(_PATIENCE):
                link = await self._peers.link(node)
                stop = await link.session.follow(partial(self._tell, relay), partial(self._lost, relay))
        except TimeoutError:
            self._drop(relay)
            raise NodeDown(node=node.name, address=node.address, why=_("no answer in time")) from None
        except BaseException:
            self._drop(relay)
            raise
        if self._relays.get(node.number) is not relay:  # nobody wants it any more
            stop()
            return
        relay.stop = stop
        self._say(relay, api.Followed(node.number, on=True))

    def _tell(self, relay: _Relay, event: api.Event) -> None:
        if not isinstance(event, api.OwnEvent):  # a peer tells of itself only
            return
        self._say(relay, api.Elsewhere(relay.node.number, event))

    def _say(self, relay: _Relay, event: api.Event) -> None:
        for notify in (*relay.named, *self._all):
            notify(event)

    def _lost(self, relay: _Relay, why: OmError) -> None:
        """Its connection ended: that ends this relay, and no other."""
        log.info("a peer is not followed any more", peer=relay.node.name, why=why)
        self._drop(relay)
        self._say(relay, api.Followed(relay.node.number, on=False, error=why.to_wire()))

    def _end(self, relay: _Relay) -> None:
        self._drop(relay)
        if relay.stop is not None:
            relay.stop()
            self._say(relay, api.Followed(relay.node.number, on=False))

    def _drop(self, relay: _Relay) -> None:
        if self._relays.get(relay.node.number) is relay:
            del self._relays[relay.node.number]
            self._before[relay.node.number] = time.monotonic()


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever asked is told by `follow`; of those who want to hear of all the next round tries again."""
    if not task.cancelled():
        task.exception()
