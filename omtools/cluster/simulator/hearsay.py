"""Gossip of very large clusters, without its messages: what each node has heard is drawn, not sent.

A run of 10,000 nodes would spend nearly all its time with thirty thousand messages a second. What decisions
need of them is little: some random nodes, and how old the news of each is. How old, the protocol itself says:
a few hundred real `Gossip` nodes play some rounds first, and the ages of the freshest that each of them then
has are kept as a sample. They do not depend on the size of the cluster (a window is a window), which the test
of this module shows, together with the makespans of both kinds of run being alike.

What is left out: news that travels ahead (switches, deaths). A node that is gone is noticed by its growing
age, as a silent one is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from random import Random

import msgspec

from omtools.cluster.constraints import MAX_AGE_S
from omtools.cluster.gossip import Gossip, Outgoing, Settings, View
from omtools.cluster.load import CONFIGURED, UP
from omtools.cluster.vector import Vector, encode

_NODES = 200  # that play the protocol
_SETTLE = 22  # rounds: by then nobody counts as having just joined
_SAMPLED = 4  # rounds after these
_KEPT = int(MAX_AGE_S) + 2  # vectors of each node: older ones decide nothing


class Hearsay:
    """What all nodes have heard.

    Attributes:
        bytes_per_s: that a node would send.
    """

    def __init__(self, numbers: list[int], settings: Settings, random: Random, looked_at: int) -> None:
        self._random = random
        self._ages, self.bytes_per_s = learn(settings, looked_at)
        self._order = list(numbers)
        self._told: dict[int, deque[tuple[float, Vector]]] = {n: deque(maxlen=_KEPT) for n in numbers}
        self._shuffled = -1.0

    def note(self, now: float, vector: Vector) -> None:
        """A node has measured itself."""
        self._told[vector.number].append((now, vector))

    def views(self, own: int, now: float, reach: Callable[[int, int], bool] | None) -> list[View]:
        """What that node knows now, the freshest first.

        Args:
            own: its number.
            now: the world's time.
            reach: whether messages get from one node to another; None: they do.
        """
        if now - self._shuffled >= 1.0:
            self._random.shuffle(self._order)
            self._shuffled = float(int(now))
        ages = self._ages[int(self._random.random() * len(self._ages))]
        start = int(self._random.random() * len(self._order))
        numbers = self._order[start : start + len(ages)]
        numbers += self._order[: len(ages) - len(numbers)]
        told, make, found = self._told, tuple.__new__, []
        for number, age in zip(numbers, ages, strict=False):
            history = told[number]
            if age >= len(history) or number == own or (reach is not None and not reach(number, own)):
                continue
            born, vector = history[-1 - age]
            if now - born <= MAX_AGE_S:
                found.append(make(View, (vector, now - born)))
        return found


@lru_cache(4)
def learn(settings: Settings, looked_at: int) -> tuple[list[list[int]], float]:
    """Play the protocol; returns ages in whole rounds, one list per node and round, and bytes per second."""
    random = Random(1)
    peers = list(range(1, _NODES + 1))
    nodes = {number: Gossip(number, 1, Random(random.getrandbits(32)), settings) for number in peers}
    ages: list[list[int]] = []
    sent = weighed = 0
    for second in range(_SETTLE + _SAMPLED):
        now = float(second)
        mail: list[tuple[int, Outgoing]] = []
        for number, node in nodes.items():
            node.measure(msgspec.structs.replace(node.own, status=CONFIGURED | UP))
            mail += [(number, one) for one in node.tick(now, peers)]
        random.shuffle(mail)
        for sender, outgoing in mail:
            answer = nodes[outgoing.target].receive(now, sender, outgoing.message)
            if answer is not None:
                nodes[sender].receive(now, outgoing.target, answer.message)
        if second >= _SETTLE:
            sent += sum(len(encode(outgoing.message)) for _sender, outgoing in mail[:100])
            weighed += len(mail[:100])
            for node in nodes.values():
                ages.append([round(view.age) for view in node.freshest(now, looked_at, MAX_AGE_S)])
    return ages, sent / weighed * settings.fanout
