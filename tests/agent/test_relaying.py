"""omtools.agent.relaying: whose turn it is, and agents that tell what happens elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api, relaying
from omtools.agent.asking import open_unix
from omtools.agent.relaying import TURN_S, next_turns
from omtools.errors import NoAgent, NodeDown, NotAllowed, OmError, TooManyFollowed

from .support import Cluster

PATIENCE = 60.0

NUMBERS = st.integers(1, 30)
TIMES = st.floats(0, 100)


@given(st.sets(NUMBERS), st.dictionaries(NUMBERS, TIMES), st.dictionaries(NUMBERS, TIMES), st.integers(1, 40))
def test_as_many_as_allowed_and_none_twice(
    up: set[int], followed: dict[int, float], before: dict[int, float], most: int
) -> None:
    followed = dict(list(followed.items())[:most])
    begin, end = next_turns(sorted(up), followed, before, 100.0, most)
    assert set(begin) <= up - set(followed)
    assert set(end) <= set(followed)
    assert len(set(begin)) == len(begin)
    assert len(followed) - len(end) + len(begin) <= most
    assert all(100.0 - followed[number] >= TURN_S for number in end)


def test_all_come_to_their_turn() -> None:
    followed: dict[int, float] = {}
    before: dict[int, float] = {}
    seen: set[int] = set()
    for second in range(0, 400, 1):
        begin, end = next_turns(range(2, 12), followed, before, float(second), 3)
        for number in end:
            del followed[number]
            before[number] = float(second)
        followed |= dict.fromkeys(begin, float(second))
        seen |= set(followed)
        assert len(followed) <= 3
    assert seen == set(range(2, 12))


class Hearing:
    """What a subscriber of node 1 hears."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[api.Event] = asyncio.Queue()
        self.heard: list[api.Event] = []
        self.ended: list[OmError] = []
        self.stop: Callable[[], None] = lambda: None

    async def until(self, wanted: Callable[[api.Event], bool]) -> api.Event:
        async with asyncio.timeout(PATIENCE):
            while True:
                self.heard.append(await self.queue.get())
                if wanted(self.heard[-1]):
                    return self.heard[-1]


@contextlib.asynccontextmanager
async def hearing(cluster: Cluster, wanted: api.Subscribe, number: int = 1) -> AsyncIterator[Hearing]:
    found = Hearing()
    link = await open_unix(cluster.run(number) / "agent.sock", "test")
    try:
        found.stop = await link.follow(found.queue.put_nowait, found.ended.append, wanted)
        yield found
    finally:
        await link.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def set_block(cluster: Cluster, number: int, on: bool) -> None:
    async with cluster.asking(number) as asker:
        await asker.ask(api.Switch("block", on))


def blocked(node: int) -> Callable[[api.Event], bool]:
    return lambda event: (
        isinstance(event, api.Elsewhere)
        and event.node == node
        and isinstance(event.event, api.SwitchChanged)
        and event.event.node == node
    )


async def test_another_nodes_events_until_that_is_enough(three: Cluster) -> None:
    relays = three.agents[1].relays
    async with hearing(three, api.Subscribe("metrakilate")) as first, hearing(three, api.Subscribe("2")) as second:
        assert relays.followed == [2]
        assert len(three.agents[2]._subscribers) == 1  # once, for both
        await set_block(three, 3, True)
        await set_block(three, 1, True)
        await set_block(three, 2, True)
        for one in (first, second):
            await one.until(blocked(2))
            assert [event for event in one.heard if isinstance(event, api.Elsewhere) and event.node != 2] == []
            assert not any(isinstance(event, api.SwitchChanged) for event in one.heard)  # not of node 1
        first.stop()
        await set_block(three, 2, False)
        await second.until(blocked(2))
        assert first.queue.empty()
        assert len(three.agents[2]._subscribers) == 1
        second.stop()
        await until(lambda: three.agents[2]._subscribers == [])
        assert relays.followed == []


async def test_a_lost_peer_ends_what_is_told_of_it_alone_and_comes_back(three: Cluster) -> None:
    async with (
        hearing(three, api.Subscribe(all=True)) as everything,
        hearing(three, api.Subscribe("2")) as second,
        hearing(three, api.Subscribe("3")) as third,
    ):
        for node in (2, 3):
            await everything.until(lambda event, node=node: event == api.Followed(node, on=True))  # type: ignore[misc]
        await three.stop(2)
        for one in (everything, second):
            lost = await one.until(lambda event: isinstance(event, api.Followed) and not event.on)
            assert isinstance(lost, api.Followed)
            assert lost.node == 2
            assert isinstance(OmError.from_wire(lost.error), NodeDown)
        await set_block(three, 3, True)
        await third.until(blocked(3))
        await set_block(three, 1, True)
        await everything.until(lambda event: isinstance(event, api.SwitchChanged) and event.node == 1)
        await three.start(2)
        await everything.until(lambda event: event == api.Followed(2, on=True))
        await set_block(three, 2, True)
        await everything.until(blocked(2))
        assert second.queue.empty()  # its last word was that it is lost
        await three.stop(1)
        await until(lambda: len(third.ended) == 1)
        assert isinstance(third.ended[0], NoAgent)
    await until(lambda: three.agents[3]._subscribers == [])


async def test_not_more_than_so_many_and_nobody_asks_round_corners(
    three: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "MOST", 1)
    async with hearing(three, api.Subscribe("2")):
        with pytest.raises(TooManyFollowed, match="ixchel"):
            async with hearing(three, api.Subscribe("3")):
                pass
    link = await three.agents[2].peers.link(three.agents[2].configuration.map.number(1))
    for wanted in (api.Subscribe("3"), api.Subscribe(all=True)):
        with pytest.raises(NotAllowed):
            await link.session.call(wanted, api.Done)
    assert three.agents[1].relays.followed == []


async def test_a_node_that_does_not_answer_cannot_be_followed(short_pair: Cluster) -> None:
    with pytest.raises(NodeDown):
        async with hearing(short_pair, api.Subscribe("2")):
            pass
    assert short_pair.agents[1].relays.followed == []
    async with hearing(short_pair, api.Subscribe()) as own:  # what was refused leaves nothing behind
        await set_block(short_pair, 1, True)
        await own.until(lambda event: isinstance(event, api.SwitchChanged))


@pytest.fixture
async def short_pair(apart: Cluster) -> Cluster:
    """Two nodes, of which one is down."""
    await apart.start(1)
    return apart
