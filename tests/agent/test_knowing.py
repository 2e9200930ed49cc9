"""Agents tell each other how they are, and what they heard of others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from omtools.agent import api, knowing as knowing_module
from omtools.agent.callers import Caller
from omtools.cluster.gossip import State
from omtools.cluster.load import BLOCK, UP
from omtools.cluster.vector import Entry, Message, Vector, encode
from omtools.errors import BadRequest, NotAllowed

from .support import Asker, Cluster


async def until_known(asker: Asker, states: dict[int, str]) -> dict[int, api.NodeView]:
    async with asyncio.timeout(60):
        while True:
            views = {view.number: view for view in (await asker.ask(api.Views())).nodes}
            if all(views[number].state == state for number, state in states.items()):
                return views
            await asyncio.sleep(0.05)


async def test_each_learns_of_all(three: Cluster) -> None:
    async with three.asking(1) as one, three.asking(3) as last:
        for asker in (one, last):
            views = await until_known(asker, {1: "up", 2: "up", 3: "up"})
            assert all(view.status & UP and view.speed == 10000 and view.mem_total for view in views.values())
            assert all(view.age < 60 for view in views.values())
        await one.ask(api.Switch("block", True))
        async with asyncio.timeout(60):
            while not (await until_known(last, {1: "up"}))[1].status & BLOCK:
                await asyncio.sleep(0.05)
        await three.stop(2)
        await until_known(one, {2: "left"})
        await until_known(last, {2: "left"})
        await three.start(2)
        await until_known(one, {2: "up"})


async def test_a_round_of_decisions_that_wants_another_soon(pair: Cluster) -> None:
    """It comes before the next second, and not at once."""
    knowing = pair.agents[1].knowing
    rounds: list[float] = []
    soon = asyncio.Event()

    async def decide() -> float | None:
        rounds.append(asyncio.get_running_loop().time())
        if len(rounds) == 1:
            assert knowing._timer is not None
            knowing._timer.cancel()  # so that it cannot be the next second's
            return 0.0
        soon.set()
        return None

    knowing._then = decide
    async with asyncio.timeout(60):
        await soon.wait()
    assert rounds[1] - rounds[0] > 0.19


async def test_with_one_processor_others_hear_of_a_node_first(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the keepers' template is started, which takes that processor seconds on an emulated machine."""
    heard: list[object] = []
    monkeypatch.setattr(knowing_module, "_INTRODUCED", 60.0)  # so that load cannot cut it short
    await pair.stop(2)

    async def template(run: Path) -> None:  # noqa: ARG001 - the engine's signature
        heard.append(pair.agents[1].knowing.gossip.state(time.monotonic(), 2))
        pair.engine.templates += 1

    monkeypatch.setattr(pair.engine, "ensure_template", template)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    await pair.start(2)
    assert heard == [State.UP]


async def test_a_node_alone_does_not_wait_to_be_heard(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowing_module, "_INTRODUCED", 3600.0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    await pair.stop()
    async with asyncio.timeout(60):
        await pair.start(1)


async def test_who_was_never_heard_of(pair: Cluster) -> None:
    await pair.stop(2)
    async with pair.asking(1) as asker:
        (own, other) = (await asker.ask(api.Views())).nodes
        assert own.state == "up"
        assert other.name == "metrakilate"
        assert other.state in ("", "left", "up", "does not answer")


async def test_only_agents_tell_and_not_everything_is_believed(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        with pytest.raises(NotAllowed):
            await asker.ask(api.News(encode(Message(2))))
    knowing = pair.agents[1].knowing
    for data in (b"nonsense", encode(Message(1))):
        with pytest.raises(BadRequest):
            knowing.hear(api.News(data), Caller("node", -1))
    knowing.hear(api.News(encode(Message(2, entries=(Entry(Vector(9)),)))), Caller("node", -1, node=2))
    with pytest.raises(NotAllowed, match="in the name of node 2"):
        knowing.hear(api.News(encode(Message(2))), Caller("node", -1, node=3))
    assert knowing.gossip.state(0, 9) is None  # no node of this cluster
