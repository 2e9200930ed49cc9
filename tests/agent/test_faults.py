"""Agents among faulty ones: floods, refusals at the last moment, many that join at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from omtools.agent import api
from omtools.cluster.load import Loads
from omtools.cluster.vector import Entry, Kind, Message, Untrue, encode
from omtools.errors import BadRequest

from .support import Cluster

BURN = "while True: pass"
MANY = 36


async def test_a_peer_that_floods_is_not_listened_to_and_others_are(three: Cluster) -> None:
    first, second, third = (three.agents[number] for number in (1, 2, 3))
    link = await second.peers.link(second.configuration.map.number(1))
    calls = [link.session.call(api.News(encode(Message(2, Kind.NEWS))), api.Heard) for _one in range(200)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, BadRequest)]
    assert len(refused) > 150
    assert first.knowing.gossip.refused[Untrue.FLOOD] >= len(refused)
    other = await third.peers.link(third.configuration.map.number(1))
    assert isinstance(await other.session.call(api.News(encode(Message(3, Kind.NEWS))), api.Heard), api.Heard)
    async with three.asking(1) as asker:
        assert (await asker.ask(api.NodeInfo())).number == 1


@pytest.mark.parametrize("refusal", ["busy", "launch"])
async def test_a_target_that_refuses_at_the_last_moment(
    pair: Cluster, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.engine.real = True
    second = pair.agents[2]
    if refusal == "busy":
        monkeypatch.setattr(second.guests, "_judge", lambda *_given: "it has work enough")
    else:
        pair.engine.launch_error = BadRequest(why="no more processes")
    second.gauge.stop()
    second.gauge.loads = Loads()  # both share this machine: the second one says that it is idle
    busy = [subprocess.Popen([sys.executable, "-c", BURN]) for _one in range(2 + (os.cpu_count() or 1))]
    try:
        async with pair.asking(1) as watcher, pair.asking(1) as asker:
            await watcher.ask(api.Subscribe())
            for process in busy:
                await asker.ask(api.Lock(process.pid, False))
            async with asyncio.timeout(60):
                failed = await watcher.event(
                    lambda event: isinstance(event, api.Decided) and event.what == "failed"
                )
            assert failed.target == 2
            assert failed.reason
            assert failed.pid in [process.pid for process in busy]
            assert all(process.poll() is None for process in busy)
            listed = await asker.ask(api.Processes(all=True))
            assert listed.processes == []
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextlib.contextmanager
def burning(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that compute."""
    busy = [subprocess.Popen([sys.executable, "-c", BURN]) for _one in range(count)]
    try:
        yield busy
    finally:
        for process in busy:
            process.kill()
            process.wait()


async def test_a_node_that_lies_about_its_load_is_asked_in_vain_and_then_left_alone(three: Cluster) -> None:
    three.engine.real = True
    three.engine.launch_error = BadRequest(why="nothing moves in this test")
    honest, liar = three.agents[2], three.agents[3]
    for agent in (honest, liar):
        agent.gauge.stop()
        agent.gauge.loads = Loads()
    liar.gauge.set_speed(90000)  # fast and idle, says the gossip; it has work enough, says its door
    liar.guests._judge = lambda *_given: "it has work enough"
    with burning(2 + (os.cpu_count() or 1)) as busy:
        async with three.asking(1) as watcher, three.asking(1) as asker:
            await watcher.ask(api.Subscribe())
            for process in busy:
                await asker.ask(api.Lock(process.pid, False))
            asked: list[int] = []
            async with asyncio.timeout(60):
                while not {2, 3} <= set(asked):
                    event = await watcher.event(lambda event: isinstance(event, api.Decided) and event.what == "failed")
                    asked.append(event.target)
            assert all(process.poll() is None for process in busy)


async def test_a_node_whose_figures_cannot_be_is_not_believed_and_others_are(three: Cluster) -> None:
    first, second = three.agents[1], three.agents[2]
    gossip = first.knowing.gossip
    link = await second.peers.link(second.configuration.map.number(1))
    own = second.knowing.measure()
    for wrong in (
        {"available_mb": own.total_mb + 1}, {"speed": 0}, {"cpus": 0}, {"util": 101}, {"incarnation": 1 << 60},
    ):  # fmt: skip
        news = Message(2, Kind.NEWS, entries=(Entry(msgspec.structs.replace(own, **wrong)),))
        with contextlib.suppress(BadRequest, ValueError, msgspec.MsgspecError, OverflowError):
            await link.session.call(api.News(encode(news)), api.Heard)
        view = gossip.view(time.monotonic(), 2)
        assert view is None or all(getattr(view.vector, name) != value for name, value in wrong.items())
    async with asyncio.timeout(60):
        while gossip.state(time.monotonic(), 3) is None:
            await asyncio.sleep(0.05)


@pytest.mark.alone
async def test_many_that_join_at_once_know_each_other(short: Path) -> None:
    cluster = Cluster(short, MANY, "CONNECTTIMEOUT=60\n")
    await cluster.start()
    gossips = [agent.knowing.gossip for agent in cluster.agents.values()]
    async with asyncio.timeout(110):
        while any(len(gossip.nodes(time.monotonic())) < MANY - 1 for gossip in gossips):
            await asyncio.sleep(0.2)
    assert all(sum(gossip.refused.values()) == 0 for gossip in gossips)
    await cluster.end()
