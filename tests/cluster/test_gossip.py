from __future__ import annotations

import contextlib
import math
from random import Random

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from omtools.cluster.gossip import Gossip, Outgoing, Settings, State
from omtools.cluster.load import BLOCK, CONFIGURED, QUIET, UP
from omtools.cluster.vector import Entry, Kind, Message, Untrue, UntrueError, Vector, encode

UP_NOW = Vector(1, status=CONFIGURED | UP)


class Cluster:
    """Nodes whose clocks have nothing to do with each other; rounds of one second."""

    def __init__(self, count: int, seed: int = 1, config: Settings | None = None, loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.config = config or Settings()
        self.loss = loss
        self.now = 0.0
        self.nodes = {number: self.fresh(number) for number in range(1, count + 1)}
        self.clocks = {number: self.random.uniform(-1e6, 1e6) for number in self.nodes}
        self.sides: dict[int, int] = {}
        self.bytes = 0

    def fresh(self, number: int, incarnation: int = 1) -> Gossip:
        return Gossip(number, incarnation, Random(self.random.getrandbits(32)), self.config)

    def time(self, number: int) -> float:
        return self.now + self.clocks[number]

    def connected(self, one: int, other: int) -> bool:
        return (
            one in self.nodes
            and other in self.nodes
            and self.sides.get(one, 0) == self.sides.get(other, 0)
            and self.random.random() >= self.loss
        )

    def round(self, peers: list[int] | None = None) -> None:
        everybody = peers or sorted(self.nodes)
        mail: list[tuple[int, Outgoing]] = []
        for number, node in self.nodes.items():
            node.measure(node.own if node.own.up else UP_NOW)
            mail += [(number, one) for one in node.tick(self.time(number), everybody)]
        for sender, outgoing in mail:
            self.bytes += len(encode(outgoing.message))
            if self.connected(sender, outgoing.target):
                self.deliver(sender, outgoing)
        self.now += 1.0

    def deliver(self, sender: int, outgoing: Outgoing) -> None:
        target = outgoing.target
        answer = self.nodes[target].receive(self.time(target), sender, outgoing.message)
        if answer is not None:
            self.bytes += len(encode(answer.message))
            if self.connected(target, sender):
                assert self.nodes[sender].receive(self.time(sender), target, answer.message) is None

    def rounds(self, count: int, peers: list[int] | None = None) -> None:
        for _round in range(count):
            self.round(peers)

    def states(self, number: int) -> set[State | None]:
        return {
            node.state(self.time(other), number) for other, node in self.nodes.items() if other != number
        }

    def set_status(self, number: int, status: int) -> None:
        node = self.nodes[number]
        node.measure(msgspec.structs.replace(node.own, status=status))

    def who_know(self, number: int, status: int) -> int:
        views = [node.view(self.time(other), number) for other, node in self.nodes.items()]
        return sum(view is not None and view.vector.status == status for view in views)


@pytest.mark.parametrize("count", [2, 10, 100])
def test_everybody_hears_of_everybody(count: int) -> None:
    cluster = Cluster(count)
    cluster.rounds(8 + 4 * math.ceil(math.log2(count)) + count // 4)
    for number, node in cluster.nodes.items():
        assert len(node.nodes(cluster.time(number))) == count - 1
        assert cluster.states(number) == {State.UP}


@pytest.mark.parametrize("count", [10, 50, 250])
def test_news_reaches_everybody_in_logarithmic_time(count: int) -> None:
    cluster = Cluster(count)
    cluster.rounds(15 + count // 5)
    cluster.set_status(1, CONFIGURED | UP | BLOCK)
    rounds = 0
    while cluster.who_know(1, CONFIGURED | UP | BLOCK) < count:
        cluster.round()
        rounds += 1
        assert rounds <= 4 + 2 * math.log2(count)


def test_the_bytes_do_not_grow_with_the_cluster() -> None:
    sent = []
    for count in (12, 150):
        cluster = Cluster(count)
        cluster.rounds(60)  # until it is no news any more that they all joined
        cluster.bytes = 0
        cluster.rounds(5)
        sent.append(cluster.bytes / count / 5)
    assert sent[1] < 1.1 * sent[0]
    assert max(sent) < 1500


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(2, 25), st.floats(0, 0.3))
def test_ages_are_true(seed: int, count: int, loss: float) -> None:
    """Whatever the clocks: nobody takes a vector for older or younger than it is."""
    cluster = Cluster(count, seed, loss=loss)
    measured: dict[tuple[int, int], float] = {}
    for _round in range(12):
        at = cluster.now
        cluster.round()
        measured |= {(number, node.own.sequence): at for number, node in cluster.nodes.items()}
        for number, node in cluster.nodes.items():
            for _other, _state, view in node.nodes(cluster.time(number)):
                when = measured.get((view.vector.number, view.vector.sequence))
                if when is not None:  # who hears itself suspected says "I live" without measuring
                    assert view.age == pytest.approx(cluster.now - when, abs=0.02)  # each hop cuts off < 1 ms


def test_the_dead_are_found_dropped_and_the_living_are_not() -> None:
    cluster = Cluster(60)
    peers = sorted(cluster.nodes)
    cluster.rounds(20)
    del cluster.nodes[5]
    cluster.rounds(25, peers)
    assert cluster.states(5) == {State.DOWN}
    for number in list(cluster.nodes)[:5]:
        assert cluster.states(number) == {State.UP}
        assert 5 not in {view.vector.number for view in cluster.nodes[number].freshest(cluster.time(number), 99, 1e9)}
    cluster.now += cluster.config.forget_s
    assert 5 in cluster.nodes[1].forget(cluster.time(1))
    assert cluster.nodes[1].state(cluster.time(1), 5) is None


def test_a_whole_rack_dies() -> None:
    cluster = Cluster(60)
    peers = sorted(cluster.nodes)
    cluster.rounds(20)
    for number in range(1, 21):
        del cluster.nodes[number]
    cluster.rounds(35, peers)
    for number in range(1, 21):
        assert cluster.states(number) == {State.DOWN}
    for number in range(21, 61):
        assert cluster.states(number) == {State.UP}


def test_a_lossy_network_kills_nobody() -> None:
    """A tenth of all messages is lost: hardly ever does anybody take a living node for down."""
    cluster = Cluster(30, loss=0.1)
    cluster.rounds(20)
    wrong = 0
    for _round in range(60):
        cluster.round()
        for number, node in cluster.nodes.items():
            states = [state for _other, state, _view in node.nodes(cluster.time(number))]
            wrong += states.count(State.DOWN)
    assert wrong <= 60 * 30 * 29 / 1000


def test_who_says_goodbye_has_left_at_once() -> None:
    cluster = Cluster(30)
    peers = sorted(cluster.nodes)
    cluster.rounds(20)
    leaver = cluster.nodes[3]
    for outgoing in leaver.leave(peers):
        cluster.deliver(3, outgoing)
    del cluster.nodes[3]
    cluster.rounds(10, peers)
    assert cluster.states(3) == {State.LEFT}


@pytest.mark.parametrize("incarnation", [2, 1, 0])
def test_who_restarts_is_believed_again(incarnation: int) -> None:
    """Also one that has lost count: it is told, and goes on above its earlier life."""
    cluster = Cluster(20)
    cluster.rounds(15)
    cluster.nodes[4] = cluster.fresh(4, incarnation)
    cluster.set_status(4, CONFIGURED | UP | BLOCK)
    cluster.rounds(15)
    assert cluster.nodes[4].own.incarnation >= 2
    assert cluster.who_know(4, CONFIGURED | UP | BLOCK) == 20
    assert cluster.states(4) == {State.UP}


def test_who_is_quiet_says_so_once_answers_and_is_not_taken_for_dead() -> None:
    cluster = Cluster(20)
    cluster.rounds(15)
    quiet = CONFIGURED | UP | QUIET
    cluster.set_status(4, quiet)
    cluster.rounds(15)
    assert cluster.who_know(4, quiet) == 20
    assert cluster.nodes[4].tick(cluster.time(4), sorted(cluster.nodes)) == []
    cluster.rounds(60)
    assert cluster.states(4) == {State.UP}
    view = cluster.nodes[1].view(cluster.time(1), 4)
    assert view is not None
    assert view.age > 40  # too old to decide anything by
    assert len(cluster.nodes[4].freshest(cluster.time(4), 100, 5.0)) > 5  # it listens
    cluster.set_status(4, CONFIGURED | UP)
    cluster.rounds(10)
    assert cluster.who_know(4, CONFIGURED | UP) == 20


def test_a_partition_heals() -> None:
    cluster = Cluster(30)
    cluster.rounds(15)
    cluster.sides = dict.fromkeys(range(1, 11), 1)
    cluster.rounds(60)
    for number in range(1, 11):
        assert cluster.nodes[20].state(cluster.time(20), number) is State.DOWN
    cluster.sides = {}
    cluster.rounds(25)
    for number in cluster.nodes:
        assert cluster.states(number) == {State.UP}


def test_a_clock_that_jumps_harms_only_itself_and_not_for_long() -> None:
    cluster = Cluster(20)
    cluster.rounds(15)
    cluster.clocks[2] += 1e5
    cluster.clocks[3] -= 1e5
    cluster.rounds(20)
    for number in cluster.nodes:
        assert State.UP in cluster.states(number)
    for other in (1, 4, 10):
        assert cluster.nodes[other].state(cluster.time(other), 2) is State.UP
        assert cluster.nodes[2].state(cluster.time(2), other) is State.UP


def news(sender: int, *vectors: Vector) -> Message:
    return Message(sender, Kind.NEWS, tuple(Entry(vector) for vector in vectors))


def listener(config: Settings | None = None) -> Gossip:
    node = Gossip(1, 1, Random(1), config)
    node.measure(UP_NOW)
    return node


def test_a_flood_is_stopped_and_costs_others_nothing() -> None:
    node = listener()
    taken = 0
    for _message in range(100):
        with contextlib.suppress(UntrueError):
            node.receive(5.0, 2, news(2, Vector(2, 1, 1)))
            taken += 1
    assert taken == node.settings.burst
    node.receive(5.0, 3, news(3, Vector(3, 1, 1)))
    node.receive(10.0, 2, news(2, Vector(2, 1, 2)))
    assert node.refused == {Untrue.FLOOD: 80}


def test_nobody_speaks_in_another_s_name() -> None:
    for sender, claimed in ((2, 3), (1, 1)):
        with pytest.raises(UntrueError, match="another"):
            listener().receive(0.0, sender, news(claimed, Vector(2)))


def test_contradictions_and_strangers_are_not_believed_the_rest_is() -> None:
    node = listener()
    node.members = {1, 2, 3}
    node.receive(0.0, 2, news(2, Vector(2, 1, 1), Vector(3, 1, 1, free_mb=5), Vector(77, 1, 1)))
    assert [number for number, _state, _view in node.nodes(0.0)] == [2]
    assert node.refused == {Untrue.MEMORY: 1, Untrue.STRANGER: 1}


def test_a_vector_made_up_in_somebody_s_name_does_not_last() -> None:
    cluster = Cluster(10)
    cluster.rounds(10)
    forged = Vector(4, 1, 1 << 40, status=CONFIGURED | UP | BLOCK)
    cluster.nodes[6].receive(cluster.time(6), 5, news(5, forged))
    cluster.rounds(15)
    assert cluster.who_know(4, CONFIGURED | UP | BLOCK) == 0


def test_the_table_is_bounded() -> None:
    node = listener(Settings(limit=50, burst=1e9))
    for number in range(2, 1000):
        node.receive(float(number), number, news(number, Vector(number, 1, 100, status=3)))
    known = [number for number, _state, _view in node.nodes(1000.0)]
    assert len(known) <= 50
    assert 999 in known
    assert len(node.freshest(1000.0, 20, 100.0)) == 20


def test_fresh_views_come_in_order_of_age() -> None:
    cluster = Cluster(50)
    cluster.rounds(20)
    for limit in (5, 40, 1000):
        views = cluster.nodes[1].freshest(cluster.time(1), limit, 8.0)
        assert len(views) <= limit
        ages = [view.age for view in views]
        assert ages == sorted(ages)
        assert max(ages) <= 8.0
        assert len({view.vector.number for view in views}) == len(views)


def test_who_has_not_measured_says_nothing() -> None:
    assert Gossip(1, 1, Random(1)).tick(0.0, [1, 2]) == []
    assert listener().tick(0.0, []) == []
    assert listener().tick(0.0, [1]) == []
