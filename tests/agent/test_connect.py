"""The public Python API, over the unix socket, over SSH, and without asyncio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest

import omtools
from omtools.agent import api
from omtools.agent.client import talk
from omtools.cluster.discovery import Known
from omtools.commands._cluster import known_cluster
from omtools.errors import AgentVersion, NoAgent, NoSuchProcess, UnknownNode

from .support import Cluster
from .test_cluster_key import authority, join

PID = 4711


def at(cluster: Cluster, number: int) -> Any:
    return omtools.connect(socket=cluster.run(number) / "agent.sock", name="test")


async def test_what_the_readme_shows(pair: Cluster) -> None:
    async with at(pair, 1) as cluster:
        assert (cluster.number, cluster.name) == (1, "mCii")
        moved = await cluster.migrate(PID, "metrakilate")
        assert (moved.source, moved.target) == (1, 2)
        (info,) = await cluster.processes()
        assert (info.pid, info.where) == (PID, 2)
        (guest,) = await cluster.processes(all=True, node=2)
        assert (guest.role, guest.home) == ("guest", 1)
        with pytest.raises(NoSuchProcess):
            await cluster.migrate(PID + 1, 2)
        with pytest.raises(UnknownNode):
            await cluster.whois("nobody")


async def test_questions_side_by_side(pair: Cluster) -> None:
    async with at(pair, 1) as cluster:
        reports = await asyncio.gather(*(cluster.node(number) for number in (1, 2) * 20))
        assert [report.number for report in reports] == [1, 2] * 20
        names, views = await asyncio.gather(cluster.map(), cluster.views())
    assert [node.name for node in names.nodes] == ["mCii", "metrakilate"]
    assert [view.number for view in views] == [1, 2]


async def test_events_begin_when_they_are_asked_for_and_end_with_the_agent(pair: Cluster) -> None:
    async with at(pair, 1) as cluster, at(pair, 1) as other:
        events = cluster.events()
        first = asyncio.create_task(anext(events))
        async with asyncio.timeout(10):
            while not pair.agents[1]._subscribers:
                await asyncio.sleep(0)
            await other.switch("block", True)
            while not isinstance(event := await first, api.SwitchChanged):
                first = asyncio.create_task(anext(events))
        assert event == api.SwitchChanged(1, 19)
        await pair.stop(1)
        with pytest.raises(NoAgent):
            async for _event in events:
                pass


async def test_acting_on_another_node(pair: Cluster) -> None:
    async with at(pair, 1) as cluster:
        await cluster.switch("block", True, node="metrakilate")
        assert pair.agents[2].switched("block")
        assert not pair.agents[1].switched("block")
        await cluster.switch("block", False, node=2)
        await cluster.set_speed(4321, node=2)
        assert (await cluster.node(2)).speed == 4321
        tuned = await cluster.tune(api.Tune("2", yardstick=20000))
        assert tuned.yardstick == 20000
        assert (await cluster.tuning()).yardstick == 10000
        await cluster.migrate(PID, 2)
        told: list[api.Clearing] = []
        assert await cluster.expel(node=2, progress=told.append) == api.Cleared(1)
        assert [(one.done, one.total) for one in told] == [(0, 1), (1, 1)]
        with pytest.raises(UnknownNode):
            await cluster.expel(node="nobody")


async def test_over_ssh_from_anywhere(pair: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(ssh / "id_ed25519"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENMOSIX_CONFIG", str(pair.config(1)))
    authorized = pair.config(2) / "authorized_keys"
    authorized.write_text(key.export_public_key().decode())
    authorized.chmod(0o600)
    async with omtools.connect("metrakilate") as cluster:
        assert cluster.number == 2
        assert (await cluster.node()).name == "metrakilate"


async def test_over_ssh_where_nodes_find_each_other(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No map, no list of hosts: whom omdiscd has found, and the cluster's key."""
    cluster = Cluster(short, 2)
    key = authority()
    for number in (1, 2):
        join(cluster, number, key)
    (cluster.config(1) / "openmosix.map").unlink()
    (cluster.config(1) / "openmosix.config").write_text(f"LISTEN={cluster.addresses[1]}\nAGENTPORT={cluster.port}\n")
    cluster.run(1).mkdir(parents=True)
    known = Known(2, "metrakilate", cluster.addresses[2])
    (cluster.run(1) / "discovered.json").write_bytes(msgspec.json.encode([known]))
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    own = asyncssh.generate_private_key("ssh-ed25519")
    own.write_private_key(str(ssh / "id_ed25519"))
    (cluster.config(2) / "authorized_keys").write_bytes(own.export_public_key())
    (cluster.config(2) / "authorized_keys").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENMOSIX_CONFIG", str(cluster.config(1)))
    monkeypatch.setenv("OPENMOSIX_RUN", str(cluster.run(1)))
    await cluster.start(2)
    async with omtools.connect("metrakilate") as there:
        assert there.number == 2
    nodes = known_cluster("test")  # no agent runs on node 1
    assert (nodes.own, [node.name for node in nodes.nodes]) == (1, ["mCii", "metrakilate"])
    await cluster.end()


def test_nobody_there(short: Path) -> None:
    async def ask() -> None:
        async with omtools.connect(socket=short / "none.sock"):
            raise AssertionError

    with pytest.raises(NoAgent):
        asyncio.run(ask())


async def test_an_agent_of_another_version(short: Path) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(api.line_of(api.Hello(api.VERSION + 6, 1, "mCii")))
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, short / "s")
    with pytest.raises(AgentVersion):
        async with omtools.connect(socket=short / "s"):
            raise AssertionError
    server.close()
    await server.wait_closed()


async def test_the_same_methods_without_asyncio(pair: Cluster) -> None:
    def tools() -> tuple[str, list[tuple[int, int]]]:
        told: list[api.Clearing] = []

        async def conversation(cluster: omtools.Cluster) -> str:
            await cluster.migrate(PID, 2)
            await cluster.bring(progress=told.append)
            return (await cluster.whois(2)).name

        name = talk("test", conversation, pair.run(1) / "agent.sock")
        return name, [(one.done, one.total) for one in told]

    assert await asyncio.to_thread(tools) == ("metrakilate", [(0, 1), (1, 1)])


async def test_a_tool_may_wait_for_nothing_else(pair: Cluster) -> None:
    async def conversation(_cluster: omtools.Cluster) -> None:
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError):
        await asyncio.to_thread(talk, "test", conversation, pair.run(1) / "agent.sock")


def test_importing_it_is_cheap() -> None:
    code = "import sys, omtools; assert 'asyncio' not in sys.modules; omtools.connect; print(omtools.Cluster)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "omtools.agent.cluster.Cluster" in done.stdout
    assert not hasattr(omtools, "no_such_name")
