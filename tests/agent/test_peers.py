from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from omtools.agent import api, peers
from omtools.errors import NodeDown

from .support import Cluster


async def test_two_who_want_the_same_node_share_a_connection(pair: Cluster) -> None:
    peers, node = pair.agents[1].peers, pair.agents[1].configuration.map.number(2)
    first, second = await asyncio.gather(peers.link(node), peers.link(node))
    assert first is second


async def test_a_slow_answer_cuts_nothing_off(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    peers, node = pair.agents[1].peers, pair.agents[1].configuration.map.number(2)
    gate = asyncio.Event()

    async def slow(request: api.NodeInfo) -> api.NodeReport:  # noqa: ARG001
        await gate.wait()
        return api.NodeReport(2, "metrakilate", "there")

    monkeypatch.setattr(pair.agents[2], "_node_info", slow)
    patient = asyncio.create_task(peers.call(node, api.NodeInfo(), api.NodeReport))
    with pytest.raises(NodeDown, match="in time"):
        await peers.call(node, api.NodeInfo(), api.NodeReport, patience=0.05)
    first = peers._doubtful[0]
    assert not first.over
    assert await peers.link(node) is not first
    gate.set()
    assert (await patient).address == "there"


async def test_calls_under_way_fail_when_the_peer_ends(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers, node = pair.agents[1].peers, pair.agents[1].configuration.map.number(2)
    begun = asyncio.Event()

    async def never(request: api.NodeInfo) -> api.NodeReport:  # noqa: ARG001
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(pair.agents[2], "_node_info", never)
    waiting = asyncio.create_task(peers.call(node, api.NodeInfo(), api.NodeReport))
    await begun.wait()
    await pair.stop(2)
    with pytest.raises(NodeDown):
        await waiting
    assert peers._links[2].over


async def test_a_session_takes_events_and_nonsense(pair: Cluster) -> None:
    agent = pair.agents[1]
    link = await agent.peers.link(agent.configuration.map.number(2))
    events: asyncio.Queue[api.Event] = asyncio.Queue()
    await link.session.call(api.Subscribe(), api.Done, on_event=events.put_nowait)
    async with pair.asking(2) as asker:
        await asker.ask(api.Switch("block", True))
    assert await events.get() == api.SwitchChanged(2, 19)
    link.session.data_received(b"{]\n", None)
    link.session.data_received(api.line_of(api.Answer(99, api.Done())), None)
    assert (await link.session.call(api.Whois(), api.NodeName)).number == 2
    link.session.data_received(b"x" * (api.MAX_LINE + 1), None)
    assert link.over


async def test_those_who_wait_for_a_silent_node_share_one_failure(short: Path) -> None:
    cluster = Cluster(short, 2, "CONNECTTIMEOUT=1\n")
    await cluster.start(1)
    with socket.create_server((cluster.addresses[2], cluster.port)):  # it takes connections and says nothing
        node = cluster.agents[1].configuration.map.number(2)
        calls = [cluster.agents[1].peers.call(node, api.NodeInfo(), api.NodeReport) for _one in range(30)]
        async with asyncio.timeout(20):  # one after the other it would be half a minute
            failures = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(failure, NodeDown) for failure in failures)
    await cluster.end()


async def test_a_node_that_came_up_meanwhile_is_tried_again(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt from before, which still waits, says nothing of it."""
    monkeypatch.setattr("omtools.agent.peers._SAME_ATTEMPT", 0.0)
    cluster = Cluster(short, 2)
    listener = socket.create_server((cluster.addresses[2], cluster.port))
    listener.setblocking(False)
    await cluster.start(1)
    async with asyncio.timeout(20):
        silent, _address = await asyncio.get_running_loop().sock_accept(listener)  # it wants to tell its news
    with silent:
        listener.close()
        await cluster.start(2)
        node = cluster.agents[1].configuration.map.number(2)
        assert (await cluster.agents[1].peers.call(node, api.NodeInfo(), api.NodeReport)).number == 2
    await cluster.end()


async def test_a_silent_machine_is_given_up_by_both_sides(short: Path) -> None:
    cluster = Cluster(short, 2, "LINKTIMEOUT=7\n")
    await cluster.start()
    link = await cluster.agents[1].peers.link(cluster.agents[1].configuration.map.number(2))
    await link.session.call(api.Whois(), api.NodeName)
    ends = [client._connection for client in cluster.agents[2]._ssh._connections]
    for connection in (link.connection, *ends):
        raw = connection.get_extra_info("socket") if connection else None
        assert raw is not None
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    assert ends
    await cluster.end()


async def test_a_peer_that_takes_nothing_any_more_is_not_waited_for(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went without a word: what is still to be sent to it stays unsent for ever."""
    peers, node = pair.agents[1].peers, pair.agents[1].configuration.map.number(2)
    link = await peers.link(node)
    monkeypatch.setattr("omtools.agent.peers.GOODBYE", 0.05)
    monkeypatch.setattr(link.connection, "close", lambda: None)
    await link.close()
    async with asyncio.timeout(10):
        await link.connection.wait_closed()


@pytest.mark.parametrize(("error", "words"), [
    (OSError(errno.ECONNREFUSED, "Connect call failed ('203.0.113.2', 4660)"), "Connection refused"),
    (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 113] …"), "Connection refused"),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
    (OSError("no reason"), "no reason"),
])  # fmt: skip
def test_why_it_does_not_answer(error: OSError, words: str) -> None:
    assert peers._refusal(error) == words
