from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from omtools.agent import api, migrations
from omtools.errors import OmError

from .support import Cluster

PID = 4711


@pytest.fixture
async def tunnelled(short: Path) -> AsyncIterator[Cluster]:
    """Three nodes that meet through SSH only."""
    cluster = Cluster(short, 3, "LINK=ssh\n")
    cluster.engine.owners[PID] = os.getuid()
    await cluster.start()
    yield cluster
    await cluster.end()


async def test_through_ssh_there_on_and_back(tunnelled: Cluster) -> None:
    tunnels = tunnelled.run(1) / "tunnels"
    tunnelled.engine.ballast = 5_000_000
    async with tunnelled.asking(1) as asker:
        await asker.ask(api.Migrate(PID, "2"))
        order = tunnelled.engine.only("deputy").order
        assert order.endpoint.tunnel == str(next(tunnels.iterdir()))  # type: ignore[union-attr]
        assert tunnelled.engine.only("guest").order.address == "127.0.0.1"  # type: ignore[union-attr]
        await asker.ask(api.Migrate(PID, "3"))
        await asker.ask(api.Migrate(PID, "home"))
    async with asyncio.timeout(5):
        while list(tunnels.iterdir()):
            await asyncio.sleep(0.005)


async def test_where_the_port_cannot_be_reached(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(address: str, port: int) -> bool:  # noqa: ARG001
        return False

    monkeypatch.setattr(migrations, "reachable", unreachable)
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Migrate(PID, "2"))).target == 2
    assert list((pair.run(1) / "tunnels").iterdir())


async def test_all_bytes_arrive(tunnelled: Cluster) -> None:
    tunnelled.engine.ballast = 20_000_000
    async with tunnelled.asking(1) as asker:
        await asker.ask(api.Migrate(PID, "2"))
        guest = tunnelled.engine.only("guest")
        async with asyncio.timeout(30):
            while guest.received < 20_000_000:
                await asyncio.sleep(0.005)
        assert guest.received == 20_000_000


@pytest.mark.parametrize("ends", [1, 2])
async def test_a_tunnelled_process_comes_home_before_an_agent_ends(tunnelled: Cluster, ends: int) -> None:
    async with tunnelled.asking(1) as asker, tunnelled.asking(2) as other:
        await asker.ask(api.Migrate(PID, "2"))
        events = other if ends == 1 else asker
        await events.ask(api.Subscribe())
        stopping = asyncio.create_task(tunnelled.stop(ends))
        await events.event(lambda event: event.process.phase == "home")
        await stopping


async def test_a_tunnel_that_leads_nowhere(tunnelled: Cluster) -> None:
    """The guest's keeper died between its launch and the deputy's first byte."""
    launch = tunnelled.engine.launch

    async def dying(run: Path, order: object) -> object:
        launched = await launch(run, order)  # type: ignore[arg-type]
        for keeper in list(tunnelled.engine.keepers.values()):
            if keeper.state.role == "guest":
                for server in keeper._servers[1:]:
                    server.close()
        return launched

    tunnelled.engine.launch = dying  # type: ignore[assignment,method-assign]
    async with tunnelled.asking(1) as asker:
        with pytest.raises(OmError, match="no link"):
            await asker.ask(api.Migrate(PID, "2"))


async def test_tunnels_lead_only_to_guests_keepers(pair: Cluster) -> None:
    bystander = await asyncio.start_server(lambda _r, w: w.close(), pair.addresses[2], 0)
    port = bystander.sockets[0].getsockname()[1]
    agent = pair.agents[1]
    link = await agent.peers.link(agent.configuration.map.number(2))
    try:
        for host in (pair.addresses[2], "127.0.0.1", "localhost"):
            with pytest.raises(asyncssh.ChannelOpenError):
                await link.connection.open_connection(host, port)
        async with pair.asking(1) as asker:
            await asker.ask(api.Migrate(PID, "2"))
        waiting = pair.engine.only("guest").port
        _reader, writer = await link.connection.open_connection(pair.addresses[2], waiting)
        writer.close()
    finally:
        bystander.close()
