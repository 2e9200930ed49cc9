from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from omtools.agent import api
from omtools.agent.agent import Agent
from omtools.agent.config import load_configuration
from omtools.agent.memo import Memo
from omtools.errors import AgentRunning, BadConfiguration, MigrationRunning, NoSuchProcess, NotYourProcess

from .support import Cluster, there

PID = 4711


async def test_an_agent_finds_its_processes_again(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        await asker.ask(api.Migrate(PID, "2"))
    await pair.stop(1, 2)
    assert len(pair.engine.keepers) == 2
    await pair.start(1, 2)
    async with pair.asking(1) as asker, pair.asking(2) as other:
        (info,) = (await asker.ask(api.Processes())).processes
        assert (info.pid, info.where) == (PID, 2)
        (guest,) = (await other.ask(api.Processes())).processes
        assert guest.role == "guest"
        assert (await asker.ask(api.Migrate(PID, "home"))).target == 1


async def test_a_killed_keepers_socket_is_removed(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        await asker.ask(api.Migrate(PID, "2"))
    await pair.stop(1)
    keeper = pair.engine.only("deputy")
    await keeper.end(killed=True)
    control = keeper.order.control
    assert there(control)
    await pair.start(1)
    assert not there(control)
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Processes())).processes == []


async def test_a_keeper_that_dies_under_the_agent(pair: Cluster) -> None:
    async with pair.asking(1) as asker, pair.asking(1) as events:
        await asker.ask(api.Migrate(PID, "2"))
        await events.ask(api.Subscribe())
        keeper = pair.engine.only("deputy")
        await keeper.end(killed=True)
        gone = await events.event(lambda event: event.gone)
        assert gone.process.pid == PID
        assert not there(keeper.order.control)


async def test_what_does_not_speak_the_protocol_is_left_alone(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omtools.agent.keepers._FIRST_WORD", 0.1)
    await pair.stop(1)
    keepers = pair.run(1) / "keepers"
    (keepers / "deputy-file.sock").write_text("not a socket")
    writers: list[asyncio.StreamWriter] = []

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"{]\n")

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    servers = [
        await asyncio.start_unix_server(babble, keepers / "guest-1-7-0123456789ab.sock"),
        await asyncio.start_unix_server(silent, keepers / "deputy-1-8-0123456789ab.sock"),
    ]
    await pair.start(1)
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Processes(all=True))).processes == []
        with pytest.raises(MigrationRunning if os.geteuid() == 0 else NotYourProcess):
            await asker.ask(api.Migrate(8, "2"))
    for server in servers:
        server.close()
    for writer in writers:
        writer.close()


async def test_a_second_agent_is_refused(pair: Cluster) -> None:
    second = Agent(load_configuration(pair.config(1), pair.run(1)), pair.engine)
    with pytest.raises(AgentRunning) as caught:
        await second.start()
    assert caught.value.fields["pid"] == os.getpid()
    async with pair.asking(1) as asker:  # the first one never noticed
        await asker.ask(api.NodeInfo())


async def test_a_stale_socket_is_replaced(pair: Cluster) -> None:
    await pair.stop(1)
    path = pair.run(1) / "agent.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    await pair.start(1)
    async with pair.asking(1) as asker:
        await asker.ask(api.NodeInfo())


async def test_a_taken_port(pair: Cluster) -> None:
    await pair.stop(1)
    taken = await asyncio.start_server(lambda _r, w: w.close(), pair.addresses[1], pair.port)
    try:
        with pytest.raises(BadConfiguration, match=str(pair.port)):
            await pair.start(1)
        assert not (pair.run(1) / "agent.sock").exists()
        assert pair.engine.templates == 1, "the other agent's only"
    finally:
        taken.close()


async def test_an_ended_agent_leaves_no_socket(pair: Cluster) -> None:
    await pair.stop()
    for number in (1, 2):
        assert not (pair.run(number) / "agent.sock").exists()
        assert not list((pair.run(number) / "keepers").iterdir())
    assert pair.engine.templates == 0


async def test_switches_and_locks_outlive_the_agent(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        await asker.ask(api.Switch("block", True))
        await asker.ask(api.Lock(os.getpid(), True))
    await pair.stop(1)
    await pair.start(1)
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.NodeInfo())).status & 16
    memo = Memo(pair.run(1))
    assert memo.locked(os.getpid())
    memo.lock(os.getpid(), False)
    assert not memo.locked(os.getpid())


async def test_locks_are_for_ones_own_processes(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        with pytest.raises(NoSuchProcess):
            await asker.ask(api.Lock(4194304, True))
        if os.geteuid() != 0:
            with pytest.raises(NotYourProcess):
                await asker.ask(api.Lock(1, True))


def test_a_lock_is_inherited_and_dies_with_its_process(short: Path) -> None:
    memo = Memo(short)
    memo.lock(os.getppid(), True)
    assert memo.locked(os.getpid())
    memo.lock(os.getpid(), False)
    assert not memo.locked(os.getpid())
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(FileNotFoundError):
        memo.lock(child, True)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"block": 3}'])
def test_a_broken_memo_is_no_memo(short: Path, content: str) -> None:
    (short / "memo.json").write_text(content)
    assert Memo(short).switch("block", configured=False) is False
